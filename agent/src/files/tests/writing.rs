//! Changes, over a tree made for the test.

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use protocol::agent::{
    Changed, Extent, HardLink, MakeFolder, MakeLink, Open, Remove, Rename, SetAttributes, Sync, Time, Write,
};

use super::*;

/// A tree, and who changes it.
struct Desk {
    tree: Tree,
    files: Files,
    kept: Kept,
    actor: Actor,
}

impl Desk {
    fn new(name: &str) -> Self {
        // As the agent has it: modes are exact.
        nix::sys::stat::umask(nix::sys::stat::Mode::empty());
        let tree = Tree::new(name);
        let files = tree.files();
        Self { tree, files, kept: Kept::default(), actor: Actor::own() }
    }

    fn act(&self, op: Op) -> Result<Option<Answer>, Errno> {
        self.files.act(&self.actor, &op, &self.kept).unwrap()
    }

    fn open(&self, ask: Open) -> Walked {
        match self.act(Op::Open(ask)) {
            Ok(Some(Answer::Walked(walked))) => walked,
            other => panic!("{other:?}"),
        }
    }

    fn change(&self, op: Op) -> Result<Changed, Errno> {
        match self.act(op)? {
            Some(Answer::Changed(changed)) => Ok(changed),
            other => panic!("{other:?}"),
        }
    }

    fn write(&self, handle: u64, offset: u64, append: bool, bytes: &str) -> Result<u64, Errno> {
        let bytes = Bytes::copy_from_slice(bytes.as_bytes());
        match self.act(Op::Write(Write { handle, offset, append, bytes }))? {
            Some(Answer::Written(written)) => Ok(written.count),
            other => panic!("{other:?}"),
        }
    }

    fn text(&self, path: &str) -> String {
        fs::read_to_string(self.tree.0.join(path)).unwrap()
    }
}

fn path(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn create(text: &str) -> Open {
    Open { path: path(text), follow: true, write: true, create: true, mode: 0o640, ..Open::default() }
}

/// `path` of each step, `!` where nothing is.
fn steps(changed: &Changed) -> String {
    let shown = changed.steps.iter().map(|step| {
        let text = String::from_utf8_lossy(&step.path);
        if step.stat.is_some() { text.into_owned() } else { format!("{text}!") }
    });
    shown.collect::<Vec<_>>().join(" ")
}

#[test]
fn files_are_made_emptied_and_kept_as_open_says() {
    let desk = Desk::new("create");
    desk.tree.file("dir/old", "old content");
    desk.tree.link("dangling", "dir/behind");
    desk.tree.link("full", "dir/old");
    let made = desk.open(create("/dir/new"));
    assert_eq!((made.errno, made.whole), (0, true));
    assert_eq!(shown(&made), "/dir /dir/new = ");
    assert_eq!(made.steps[1].stat.as_ref().unwrap().mode & 0o7777, 0o640);
    let folder = made.steps[0].stat.as_ref().unwrap();
    let real = fs::metadata(desk.tree.0.join("dir")).unwrap();
    assert_eq!(
        (folder.mtime, folder.mtime_nsec),
        (real.mtime(), real.mtime_nsec() as u32),
        "after it was made"
    );
    assert_eq!(desk.write(made.handle, 0, false, "hello"), Ok(5));
    assert_eq!(desk.text("dir/new"), "hello");
    // It is there now: opened as it is, or not at all.
    assert_eq!(desk.open(create("/dir/new")).errno, 0);
    assert_eq!(desk.text("dir/new"), "hello");
    assert_eq!(desk.open(Open { exclusive: true, ..create("/dir/new") }).errno, libc::EEXIST);
    assert_eq!(desk.open(Open { exclusive: true, ..create("/dangling") }).errno, libc::EEXIST);
    assert_eq!(shown(&desk.open(create("/dangling"))), "/dangling->dir/behind /dir /dir/behind = ");
    assert_eq!(desk.text("dir/behind"), "");
    for (wrong, errno) in [
        ("/none/new", libc::ENOENT),
        ("/dir/old/new", libc::ENOTDIR),
        ("/dir/other/", libc::EISDIR),
        ("relative", libc::EINVAL),
    ] {
        assert_eq!(desk.open(create(wrong)).errno, errno, "{wrong}");
    }
    let emptied = desk.open(Open { truncate: true, ..create("/full") });
    assert_eq!((emptied.errno, emptied.steps.last().unwrap().stat.as_ref().unwrap().size), (0, 0));
    assert_eq!(desk.text("dir/old"), "");
    // Content comes along, and the file is kept all the same.
    desk.tree.file("short", "short");
    let read =
        desk.open(Open { path: path("/short"), follow: true, read: true, inline: 100, ..Open::default() });
    assert_eq!((read.content.clone(), read.handle > 0), (Bytes::from_static(b"short"), true));
    assert_eq!(desk.write(read.handle, 0, false, "x"), Err(Errno::EBADF));
    let listed = desk.open(Open { path: path("/dir"), read: true, list: true, ..Open::default() });
    assert_eq!((listed.handle, listed.listed.unwrap().entries.len()), (0, 3));
}

#[test]
fn appends_of_two_go_one_behind_the_other() {
    let desk = Desk::new("append");
    let (one, two) = (desk.open(create("/log")).handle, desk.open(create("/log")).handle);
    // Both believe that the file is empty.
    for (handle, text) in [(one, "a1\n"), (two, "b1\n"), (one, "a2\n"), (two, "b2\n")] {
        assert_eq!(desk.write(handle, 0, true, text), Ok(3));
    }
    assert_eq!(desk.text("log"), "a1\nb1\na2\nb2\n");
    assert_eq!(desk.write(one, 3, false, "B"), Ok(1));
    assert_eq!(desk.text("log"), "a1\nB1\na2\nb2\n");
    for extent in [Extent::Close, Extent::Data, Extent::All] {
        let sync = Sync { handle: one, path: Bytes::new(), extent: extent as i32 };
        assert_eq!(desk.act(Op::Sync(sync)), Ok(None));
    }
    assert_eq!(desk.act(Op::Sync(Sync { handle: 0, path: path("/"), extent: 2 })), Ok(None));
    assert_eq!(desk.act(Op::Sync(Sync { handle: 0, path: path("/log"), extent: 2 })), Err(Errno::ENOTDIR));
    desk.kept.close(one).unwrap();
    assert_eq!(desk.write(one, 0, true, "x"), Err(Errno::EBADF));
}

#[test]
fn names_are_made_renamed_and_removed() {
    let desk = Desk::new("names");
    desk.tree.file("a/file", "1");
    desk.tree.link("to-a", "a");
    let folder = |text: &str| Op::MakeFolder(MakeFolder { path: path(text), mode: 0o750 });
    assert_eq!(steps(&desk.change(folder("/to-a/sub/")).unwrap()), "/a /a/sub");
    assert_eq!(fs::metadata(desk.tree.0.join("a/sub")).unwrap().permissions().mode() & 0o7777, 0o750);
    let rename = |from: &str, to: &str, flags| Op::Rename(Rename { from: path(from), to: path(to), flags });
    assert_eq!(
        steps(&desk.change(rename("/a/file", "/a/sub/moved", 0)).unwrap()),
        "/a /a/sub /a/file! /a/sub/moved"
    );
    let link = |text: &str, to: &str| Op::MakeLink(MakeLink { path: path(to), text: path(text) });
    assert_eq!(steps(&desk.change(link("../nowhere", "/l")).unwrap()), "/ /l");
    assert_eq!(fs::read_link(desk.tree.0.join("l")).unwrap(), PathBuf::from("../nowhere"));
    let hard =
        |from: &str, follow, to: &str| Op::HardLink(HardLink { from: path(from), follow, to: path(to) });
    desk.change(hard("/to-a/sub/moved", false, "/second")).unwrap();
    assert_eq!(fs::metadata(desk.tree.0.join("second")).unwrap().nlink(), 2);
    desk.change(hard("/l", false, "/l2")).unwrap();
    assert_eq!(
        fs::read_link(desk.tree.0.join("l2")).unwrap(),
        PathBuf::from("../nowhere"),
        "the link itself"
    );
    let remove = |text: &str, folder| Op::Remove(Remove { path: path(text), folder });
    assert_eq!(steps(&desk.change(remove("/a/sub/moved", false)).unwrap()), "/a/sub /a/sub/moved!");
    desk.change(remove("/a/sub", true)).unwrap();
    for (op, errno) in [
        (folder("/a"), Errno::EEXIST),
        (folder("/"), Errno::EEXIST),
        (folder("/a/.."), Errno::EEXIST),
        (folder("/none/x"), Errno::ENOENT),
        (folder("/second/x"), Errno::ENOTDIR),
        (remove("/a", false), Errno::EISDIR),
        (remove("/second", true), Errno::ENOTDIR),
        (remove("/", true), Errno::EBUSY),
        (remove("/a/.", true), Errno::EINVAL),
        (remove("/a/..", true), Errno::ENOTEMPTY),
        (remove("/to-a/", true), Errno::ENOTDIR),
        (remove("/none", false), Errno::ENOENT),
        (rename("/a", "/a/b", 0), Errno::EINVAL),
        (rename("/second", "/l", libc::RENAME_NOREPLACE), Errno::EEXIST),
        (rename("/a/..", "/b", 0), Errno::EBUSY),
        (link("x", "/second"), Errno::EEXIST),
        (hard("/a", false, "/b"), Errno::EPERM),
        (hard("/l", true, "/b"), Errno::ENOENT),
    ] {
        assert_eq!(desk.change(op.clone()), Err(errno), "{op:?}");
    }
    // What `..` could reach beside the root is as it was.
    assert!(desk.tree.0.exists());
}

#[test]
fn attributes_are_set_by_path_and_by_kept_file() {
    let desk = Desk::new("attributes");
    desk.tree.file("file", "content");
    desk.tree.link("link", "file");
    let real = || fs::metadata(desk.tree.0.join("file")).unwrap();
    let set = |ask: SetAttributes| desk.change(Op::SetAttributes(ask));
    let by_path = |text: &str| SetAttributes { path: path(text), follow: true, ..SetAttributes::default() };
    assert_eq!(steps(&set(SetAttributes { mode: Some(0o4711), ..by_path("/link") }).unwrap()), "/file");
    assert_eq!(real().permissions().mode() & 0o7777, 0o4711);
    let changed = set(SetAttributes { size: Some(3), ..by_path("/file") }).unwrap();
    assert_eq!((changed.steps[0].stat.as_ref().unwrap().size, desk.text("file")), (3, "con".to_owned()));
    let mtime = Some(Time { now: false, seconds: 1_000_000_000, nanoseconds: 5 });
    let before = real().atime_nsec();
    set(SetAttributes { mtime, ..by_path("/file") }).unwrap();
    assert_eq!((real().mtime(), real().mtime_nsec(), real().atime_nsec()), (1_000_000_000, 5, before));
    set(SetAttributes { mtime: Some(Time { now: true, ..Time::default() }), ..by_path("/file") }).unwrap();
    assert!(real().mtime() > 1_700_000_000);
    // The link itself, which has no permissions to be set.
    let link = SetAttributes { follow: false, ..by_path("/link") };
    set(SetAttributes { mtime, ..link.clone() }).unwrap();
    assert_eq!(fs::symlink_metadata(desk.tree.0.join("link")).unwrap().mtime(), 1_000_000_000);
    assert_eq!(set(SetAttributes { mode: Some(0o600), ..link }), Err(Errno::EOPNOTSUPP));
    // A kept file whatever became of its name.
    let handle = desk.open(create("/file")).handle;
    fs::remove_file(desk.tree.0.join("file")).unwrap();
    let by_handle = SetAttributes { handle, ..SetAttributes::default() };
    let changed = set(SetAttributes { size: Some(100), mode: Some(0o600), ..by_handle.clone() }).unwrap();
    let stat = changed.steps[0].stat.clone().unwrap();
    assert_eq!((stat.size, stat.mode & 0o7777, stat.nlink), (100, 0o600, 0));
    assert_eq!(set(by_handle).unwrap().steps[0].stat, Some(stat), "with nothing set it is fstat");
    assert_eq!(set(by_path("/file")), Err(Errno::ENOENT));
}

#[test]
fn owners_and_permissions_are_those_of_the_targets_user() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let mut desk = Desk::new("actor");
    fs::set_permissions(&desk.tree.0, fs::Permissions::from_mode(0o755)).unwrap();
    desk.tree.file("roots", "x");
    fs::set_permissions(desk.tree.0.join("roots"), fs::Permissions::from_mode(0o644)).unwrap();
    desk.tree.file("theirs/x", "x");
    desk.tree.file("shared/x", "x");
    std::os::unix::fs::chown(desk.tree.0.join("theirs"), Some(1234), Some(1234)).unwrap();
    std::os::unix::fs::chown(desk.tree.0.join("shared"), Some(0), Some(77)).unwrap();
    fs::set_permissions(desk.tree.0.join("shared"), fs::Permissions::from_mode(0o770)).unwrap();
    desk.actor = Actor { uid: 1234, gid: 2345, groups: vec![77], capabilities: 0 };
    assert_eq!(desk.open(create("/new")).errno, libc::EACCES);
    assert_eq!(desk.open(create("/roots")).errno, libc::EACCES);
    assert_eq!(desk.open(create("/theirs/new")).errno, 0);
    assert_eq!(desk.open(create("/shared/new")).errno, 0, "by one of its groups");
    for made in ["theirs/new", "shared/new"] {
        let meta = fs::metadata(desk.tree.0.join(made)).unwrap();
        assert_eq!((meta.uid(), meta.gid()), (1234, 2345), "{made}");
    }
    let owner = |uid| SetAttributes { path: path("/theirs/new"), uid: Some(uid), ..SetAttributes::default() };
    assert_eq!(desk.change(Op::SetAttributes(owner(0))), Err(Errno::EPERM));
    let mode = SetAttributes { path: path("/roots"), mode: Some(0o666), ..SetAttributes::default() };
    assert_eq!(desk.change(Op::SetAttributes(mode)), Err(Errno::EPERM));
    // Root without the capabilities of root.
    desk.actor = Actor { capabilities: 0, ..Actor::own() };
    fs::set_permissions(desk.tree.0.join("theirs"), fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(desk.open(create("/theirs/by-root")).errno, libc::EACCES);
    desk.actor = Actor::own();
    assert_eq!(desk.open(create("/theirs/by-root")).errno, 0);
}
