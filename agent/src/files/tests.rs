//! Lookups over a tree made for the test, and over `/proc`.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use super::*;

mod writing;

struct Tree(PathBuf);

impl Tree {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("agent-files-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.0.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn link(&self, path: &str, to: &str) {
        let path = self.0.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(to, path).unwrap();
    }

    fn files(&self) -> Files {
        Files::new(File::open(&self.0).unwrap().into(), Ids::unchanged())
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn ask(path: &str) -> Walk {
    Walk {
        path: Bytes::copy_from_slice(path.as_bytes()),
        follow: true,
        inline: MAX_INLINE,
        list: false,
        keep: false,
    }
}

/// `path -> link` of each step, `!` where nothing is, and the errno or content.
fn shown(walked: &Walked) -> String {
    let steps: Vec<String> = walked
        .steps
        .iter()
        .map(|step| {
            let text = String::from_utf8_lossy(&step.path);
            match (&step.stat, step.link.is_empty()) {
                (None, _) => format!("{text}!"),
                (Some(_), true) => text.into_owned(),
                (Some(_), false) => format!("{text}->{}", String::from_utf8_lossy(&step.link)),
            }
        })
        .collect();
    let end = match walked.errno {
        0 => String::from_utf8_lossy(&walked.content).into_owned(),
        errno => Errno::from_raw(errno).to_string().split(':').next().unwrap().to_owned(),
    };
    format!("{} = {end}", steps.join(" "))
}

#[test]
fn links_and_dots_lead_where_the_targets_kernel_would_go() {
    let tree = Tree::new("links");
    tree.file("etc/real.conf", "yes");
    tree.file("secret/..data/token", "t");
    tree.link("etc/absolute", "/etc/real.conf");
    tree.link("etc/relative", "../etc/./real.conf");
    tree.link("etc/outside", "../../../../../../etc/real.conf");
    tree.link("etc/dangling", "/etc/none");
    tree.link("etc/loop", "loop");
    tree.link("folder", "etc");
    let files = tree.files();
    for (path, expected) in [
        ("/etc/real.conf", "/etc /etc/real.conf = yes"),
        ("//etc/./real.conf", "/etc /etc/real.conf = yes"),
        ("/etc/absolute", "/etc /etc/absolute->/etc/real.conf /etc /etc/real.conf = yes"),
        ("/etc/relative", "/etc /etc/relative->../etc/./real.conf /etc /etc/real.conf = yes"),
        ("/etc/outside", "/etc /etc/outside->../../../../../../etc/real.conf /etc /etc/real.conf = yes"),
        ("/../../etc/real.conf", "/etc /etc/real.conf = yes"),
        ("/folder/real.conf", "/folder->etc /etc /etc/real.conf = yes"),
        ("/secret/..data/token", "/secret /secret/..data /secret/..data/token = t"),
        ("/etc/dangling", "/etc /etc/dangling->/etc/none /etc /etc/none! = ENOENT"),
        ("/none/x", "/none! = ENOENT"),
        ("/none/../etc/real.conf", "/none! = ENOENT"),
        ("/etc/real.conf/x", "/etc /etc/real.conf = ENOTDIR"),
        ("/etc/real.conf/..", "/etc /etc/real.conf = ENOTDIR"),
        ("/etc/real.conf/", "/etc /etc/real.conf = ENOTDIR"),
        ("/etc/absolute/", "/etc /etc/absolute->/etc/real.conf /etc /etc/real.conf = ENOTDIR"),
        ("/etc/..", "/etc / = "),
        ("/", "/ = "),
        ("relative", " = EINVAL"),
        ("", " = EINVAL"),
    ] {
        assert_eq!(shown(&files.walk(&ask(path), &Kept::default())), expected, "{path}");
    }
    let looped = files.walk(&ask("/etc/loop"), &Kept::default());
    assert_eq!(looped.errno, libc::ELOOP);
    let kept = files.walk(&Walk { follow: false, ..ask("/etc/absolute") }, &Kept::default());
    assert_eq!(shown(&kept), "/etc /etc/absolute->/etc/real.conf = ");
    let folder = files.walk(&Walk { follow: false, ..ask("/folder/") }, &Kept::default());
    assert_eq!(shown(&folder), "/folder->etc /etc = ");
    let long = format!("/{}", "a".repeat(5000));
    assert_eq!(files.walk(&ask(&long), &Kept::default()).errno, libc::ENAMETOOLONG);
    assert_eq!(
        files.walk(&ask(&format!("/{}", "a".repeat(300))), &Kept::default()).errno,
        libc::ENAMETOOLONG
    );
}

#[test]
fn forty_links_are_followed_and_one_more_is_a_loop() {
    let tree = Tree::new("forty");
    tree.file("end", "here");
    tree.link("l1", "end");
    for number in 2..=41 {
        tree.link(&format!("l{number}"), &format!("l{}", number - 1));
    }
    let files = tree.files();
    assert_eq!(files.walk(&ask("/l40"), &Kept::default()).content, "here");
    assert_eq!(files.walk(&ask("/l41"), &Kept::default()).errno, libc::ELOOP);
}

#[test]
fn a_stat_is_whole_seconds_too() {
    let tree = Tree::new("stat");
    tree.file("f", "12345");
    let walked = tree.files().walk(&ask("/f"), &Kept::default());
    let stat = walked.steps.last().unwrap().stat.clone().unwrap();
    let real = fs::metadata(tree.0.join("f")).unwrap();
    use std::os::unix::fs::MetadataExt;
    assert_eq!((stat.ino, stat.dev, stat.mode, stat.size), (real.ino(), real.dev(), real.mode(), 5));
    assert_eq!((stat.mtime, i64::from(stat.mtime_nsec)), (real.mtime(), real.mtime_nsec()));
    assert_eq!((stat.ctime, i64::from(stat.ctime_nsec)), (real.ctime(), real.ctime_nsec()));
    assert!(stat.mtime > 1_500_000_000);
}

#[test]
fn a_small_file_is_whole_and_a_large_one_is_kept_and_read_on() {
    let tree = Tree::new("content");
    let large: Vec<u8> = (0..200_000_u32).map(|number| number as u8).collect();
    tree.file("large", &large);
    tree.file("exact", vec![7; MAX_INLINE as usize]);
    tree.file("empty", "");
    let (files, kept) = (tree.files(), Kept::default());
    let keep = |path: &str| files.walk(&Walk { keep: true, ..ask(path) }, &kept);
    for (path, length) in [("/exact", MAX_INLINE as usize), ("/empty", 0)] {
        let walked = keep(path);
        assert_eq!(
            (walked.errno, walked.whole, walked.handle, walked.content.len()),
            (0, true, 0, length),
            "{path}"
        );
    }
    let walked = keep("/large");
    assert_eq!((walked.whole, walked.content.len()), (false, MAX_INLINE as usize));
    assert_eq!(walked.content, large[..MAX_INLINE as usize]);
    let read = |offset, length| kept.read(&Read { handle: walked.handle, offset, length });
    assert_eq!(read(100_000, 50_000).unwrap(), large[100_000..150_000]);
    assert_eq!(read(199_990, 50_000).unwrap(), large[199_990..]);
    assert_eq!(read(500_000, 10).unwrap(), "");
    assert_eq!(read(0, u32::MAX).unwrap(), large);
    kept.close(walked.handle).unwrap();
    assert_eq!(read(0, 1), Err(Errno::EBADF));
    assert_eq!(kept.close(walked.handle), Err(Errno::EBADF));
    // Neither content nor a kept file was asked for: not opened.
    let walked = files.walk(&Walk { inline: 0, ..ask("/large") }, &kept);
    assert_eq!((walked.errno, walked.whole, walked.handle), (0, false, 0));
}

#[test]
fn a_file_without_a_size_is_read_to_its_end() {
    let files = Files::new(File::open("/").unwrap().into(), Ids::unchanged());
    let walked = files.walk(&ask("/proc/cpuinfo"), &Kept::default());
    assert_eq!(walked.steps.last().unwrap().stat.as_ref().unwrap().size, 0);
    assert!(!walked.content.is_empty(), "errno {}", walked.errno);
    if walked.whole {
        assert!(walked.content.ends_with(b"\n"));
    }
    // A magic link leads where its text says.
    let shown = shown(&files.walk(&Walk { follow: false, ..ask("/proc/thread-self/cwd") }, &Kept::default()));
    assert!(shown.contains("cwd->/"), "{shown}");
}

#[test]
fn neither_a_pipe_nor_a_device_is_opened() {
    let tree = Tree::new("pipe");
    nix::unistd::mkfifo(&tree.0.join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let walked = tree.files().walk(&Walk { keep: true, ..ask("/fifo") }, &Kept::default());
    assert_eq!((walked.errno, walked.whole, walked.handle), (0, false, 0));
}

#[test]
fn a_listing_comes_whole_in_batches_and_with_links() {
    let tree = Tree::new("list");
    for number in 0..2500 {
        tree.file(&format!("many/{number}"), "");
    }
    tree.link("many/link", "0");
    let files = tree.files();
    let walked = files.walk(&Walk { list: true, ..ask("/many") }, &Kept::default());
    let mut batch = walked.listed.unwrap();
    let mut names = Vec::new();
    let mut batches = 1;
    loop {
        assert!(batch.entries.len() <= 1024);
        assert!(batch.entries.iter().all(|entry| entry.stat.is_some()));
        names.extend(batch.entries.iter().map(|entry| (entry.name.clone(), entry.link.clone())));
        if batch.next == 0 {
            break;
        }
        batch = files.list(&List { path: Bytes::from_static(b"/many"), from: batch.next }).unwrap();
        batches += 1;
    }
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 2501);
    assert!(names.contains(&(Bytes::from_static(b"link"), Bytes::from_static(b"0"))));
    assert!(batches >= 3);
    assert_eq!(files.list(&List { path: Bytes::from_static(b"/many/0"), from: 0 }), Err(Errno::ENOTDIR));
}

#[test]
fn figures_are_those_of_the_kernel() {
    let tree = Tree::new("figures");
    let figures = tree.files().figures(&Statfs { path: Bytes::from_static(b"/") }).unwrap();
    let real = nix::sys::statfs::statfs(&tree.0).unwrap();
    assert_eq!((figures.blocks, figures.bsize), (real.blocks(), real.block_size() as u64));
    assert!(figures.namelen > 0);
}
