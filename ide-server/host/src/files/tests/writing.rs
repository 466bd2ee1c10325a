//! Writing to places that may be written to: through descriptors, which the kernel asks FUSE about, and by path.

use super::*;
use protocol::agent::{Extent, Time};
use std::io::Write as _;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, UNIX_EPOCH};

impl Scene {
    fn open_rw(&self, path: &str, flags: i32, mode: u32) -> Result<File, Errno> {
        self.server().open(path.as_bytes(), flags, mode, 0, Rights::ReadWrite).map(File::from)
    }

    fn stat_rw(&self, path: &str) -> libc::stat {
        self.server().stat(path.as_bytes(), true, Rights::ReadWrite).unwrap()
    }

    fn text(&self, path: &str) -> String {
        std::fs::read_to_string(self.tree(path)).unwrap()
    }
}

fn errno(error: &io::Error) -> Errno {
    error.raw_os_error().unwrap()
}

#[test]
fn what_is_written_is_in_the_pod_before_write_returns() {
    each(&FUSE, |scene| {
        scene.write("dir/file", b"old content");
        let mut file = scene.open_rw("/dir/file", libc::O_RDWR, 0).unwrap();
        file.write_all(b"new").unwrap();
        assert_eq!(scene.text("dir/file"), "new content");
        file.write_all_at(b"!", 20).unwrap();
        assert_eq!(scene.text("dir/file"), "new content\0\0\0\0\0\0\0\0\0!");
        let mut all = String::new();
        file.seek(SeekFrom::Start(0)).unwrap();
        file.read_to_string(&mut all).unwrap();
        assert_eq!(all, scene.text("dir/file"));
        assert_eq!(attr::fstat(&file).unwrap().st_size, 21);
        file.set_len(3).unwrap();
        assert_eq!(scene.text("dir/file"), "new");
        assert_eq!(told(&attr::fstat(&file).unwrap()), told(&scene.stat_rw("/dir/file")), "fstat is stat");
        let mut made =
            scene.open_rw("/dir/made", libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL, 0o640).unwrap();
        made.write_all(b"made").unwrap();
        assert_eq!(
            (scene.text("dir/made"), scene.stat_rw("/dir/made").st_mode & 0o7777),
            ("made".into(), 0o640)
        );
        let again = scene.open_rw("/dir/made", libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL, 0o640);
        assert_eq!(again.err(), Some(libc::EEXIST));
        scene.open_rw("/dir/made", libc::O_WRONLY | libc::O_TRUNC, 0).unwrap();
        assert_eq!(scene.text("dir/made"), "");
        assert_eq!(attr::fstat(&made).unwrap().st_size, 0);
    });
}

#[test]
fn a_large_write_goes_in_few_pieces_and_arrives_whole() {
    each(&FUSE, |scene| {
        let content: Vec<u8> = (0..3_000_000_u32).map(|number| (number % 251) as u8).collect();
        let mut file = scene.open_rw("/large", libc::O_RDWR | libc::O_CREAT, 0o600).unwrap();
        file.write_all(&content).unwrap();
        assert_eq!(std::fs::read(scene.tree("large")).unwrap(), content);
        let written = std::mem::take(&mut *scene.pod.written.lock().unwrap());
        assert!(written.len() <= 13, "{} pieces: {written:?}", written.len());
        let mut back = Vec::new();
        file.seek(SeekFrom::Start(0)).unwrap();
        file.read_to_end(&mut back).unwrap();
        assert!(back == content, "what was read back differs");
    });
}

#[test]
fn appends_of_two_descriptors_and_of_the_pod_itself_follow_each_other() {
    each(&FUSE, |scene| {
        let flags = libc::O_WRONLY | libc::O_APPEND | libc::O_CREAT;
        let (mut one, mut two) =
            (scene.open_rw("/log", flags, 0o600).unwrap(), scene.open_rw("/log", flags, 0o600).unwrap());
        let mut reader = scene.open_rw("/log", libc::O_RDONLY, 0).unwrap();
        for round in 0..3 {
            one.write_all(format!("one {round}\n").as_bytes()).unwrap();
            let mut pods = std::fs::OpenOptions::new().append(true).open(scene.tree("log")).unwrap();
            pods.write_all(format!("pod {round}\n").as_bytes()).unwrap();
            two.write_all(format!("two {round}\n").as_bytes()).unwrap();
        }
        let expected: String =
            (0..3).map(|round| format!("one {round}\npod {round}\ntwo {round}\n")).collect();
        assert_eq!(scene.text("log"), expected);
        scene.stat_rw("/log");
        let mut seen = String::new();
        reader.read_to_string(&mut seen).unwrap();
        assert_eq!(seen, expected);
    });
}

#[test]
fn what_the_pod_writes_is_read_by_an_open_descriptor() {
    each(&FUSE, |scene| {
        scene.write("file", b"one");
        let file = scene.open_rw("/file", libc::O_RDWR, 0).unwrap();
        let read = || {
            let mut buffer = [0; 16];
            let length = file.read_at(&mut buffer, 0).unwrap();
            String::from_utf8(buffer[..length].to_vec()).unwrap()
        };
        assert_eq!(read(), "one");
        std::thread::sleep(Duration::from_millis(12));
        std::fs::write(scene.tree("file"), "two").unwrap();
        // Attributes are believed for a second.
        std::thread::sleep(Duration::from_millis(1100));
        assert_eq!(read(), "two");
        std::thread::sleep(Duration::from_millis(12));
        std::fs::write(scene.tree("file"), "three").unwrap();
        assert_eq!(
            scene.open_rw("/file", libc::O_RDONLY, 0).map(|file| file.metadata().unwrap().len()),
            Ok(5)
        );
        assert_eq!(read(), "three", "whoever opens it anew shows it to all");
    });
}

#[test]
fn closing_and_synchronising_ask_the_pod_only_after_a_write() {
    each(&FUSE, |scene| {
        scene.write("file", b"x");
        let syncs = || std::mem::take(&mut *scene.pod.syncs.lock().unwrap());
        drop(scene.open_rw("/file", libc::O_RDWR, 0).unwrap());
        assert_eq!(syncs(), [0; 0]);
        let mut file = scene.open_rw("/file", libc::O_RDWR, 0).unwrap();
        file.write_all(b"y").unwrap();
        file.sync_all().unwrap();
        file.sync_data().unwrap();
        drop(file);
        assert_eq!(syncs(), [Extent::All as i32, Extent::Data as i32, Extent::Close as i32]);
    });
}

#[test]
fn a_full_disk_is_told_by_write_and_what_fitted_counts() {
    each(&FUSE, |scene| {
        *scene.pod.room.lock().unwrap() = Some(300_000);
        let mut file = scene.open_rw("/file", libc::O_WRONLY | libc::O_CREAT, 0o600).unwrap();
        let content = vec![1; 400_000];
        assert_eq!(file.write(&content).unwrap(), 300_000);
        assert_eq!(errno(&file.write(&content).unwrap_err()), libc::ENOSPC);
        assert_eq!(attr::fstat(&file).unwrap().st_size, 300_000);
    });
}

#[test]
fn attributes_by_descriptor_are_the_pods() {
    each(&FUSE, |scene| {
        scene.write("file", b"x");
        std::fs::create_dir(scene.tree("dir")).unwrap();
        let file = scene.open_rw("/file", libc::O_RDWR, 0).unwrap();
        let dir = scene.open_rw("/dir", libc::O_RDONLY | libc::O_DIRECTORY, 0).unwrap();
        for (open, path) in [(&file, "file"), (&dir, "dir")] {
            open.set_permissions(std::fs::Permissions::from_mode(0o700)).unwrap();
            let mtime = UNIX_EPOCH + Duration::new(1_000_000_000, 7);
            open.set_times(std::fs::FileTimes::new().set_modified(mtime)).unwrap();
            let real = std::fs::metadata(scene.tree(path)).unwrap();
            assert_eq!(
                (real.mode() & 0o7777, real.mtime(), real.mtime_nsec()),
                (0o700, 1_000_000_000, 7),
                "{path}"
            );
            assert_eq!(told(&attr::fstat(open).unwrap()), told(&scene.stat_rw(path_of(path))));
        }
        // The same file where it is only read: the mount refuses.
        for open in [scene.open("/file", 0).unwrap(), scene.open("/", libc::O_DIRECTORY).unwrap()] {
            let refused = open.set_permissions(std::fs::Permissions::from_mode(0o755)).unwrap_err();
            assert_eq!(errno(&refused), libc::EROFS);
        }
    });
}

fn path_of(name: &str) -> &str {
    match name {
        "file" => "/file",
        _ => "/dir",
    }
}

#[test]
fn what_is_only_read_stays_read_only_by_every_way() {
    each(&FUSE, |scene| {
        scene.write("dir/file", b"x");
        let file = scene.open("/dir/file", 0).unwrap();
        let dir = scene.open("/dir", libc::O_DIRECTORY).unwrap();
        let through =
            |open: &File, name: &str| PathBuf::from(format!("/proc/self/fd/{}{name}", open.as_raw_fd()));
        let refused =
            |result: io::Result<()>| assert_eq!(result.map_err(|error| errno(&error)), Err(libc::EROFS));
        refused(std::fs::OpenOptions::new().write(true).open(through(&file, "")).map(drop));
        refused(std::fs::OpenOptions::new().write(true).truncate(true).open(through(&file, "")).map(drop));
        refused(std::fs::write(through(&dir, "/new"), "x"));
        refused(std::fs::write(through(&dir, "/file"), "x"));
        refused(std::fs::create_dir(through(&dir, "/sub")));
        refused(std::fs::remove_file(through(&dir, "/file")));
        refused(std::fs::rename(through(&dir, "/file"), through(&dir, "/other")));
        refused(symlink("x", through(&dir, "/link")));
        assert_eq!(scene.open("/dir/file", libc::O_WRONLY).err(), Some(libc::EROFS));
        assert_eq!(scene.text("dir/file"), "x");
        // Opened for reading where it may be written, it can be opened for writing by its descriptor.
        let file = scene.open_rw("/dir/file", libc::O_RDONLY, 0).unwrap();
        let mut writer = std::fs::OpenOptions::new().append(true).open(through(&file, "")).unwrap();
        writer.write_all(b"y").unwrap();
        assert_eq!(scene.text("dir/file"), "xy");
    });
}

#[test]
fn names_change_by_path_and_are_seen_changed_at_once() {
    each(&ALL, |scene| {
        let server = scene.server();
        server.make_folder(b"/dir", 0o750).unwrap();
        let dir = scene.open_rw("/dir", libc::O_RDONLY | libc::O_DIRECTORY, 0).unwrap();
        assert_eq!(names_of(&dir), BTreeSet::new());
        let unread = scene.open_rw("/dir", libc::O_RDONLY | libc::O_DIRECTORY, 0).unwrap();
        server.make_link(b"/dir/link", b"file").unwrap();
        if server.backend() != Backend::Memfd {
            assert_eq!(behaviour::names_of_fd(&unread), ["link"]);
        }
        server.make_file(b"/dir/file", 0o600).unwrap();
        assert_eq!(server.make_file(b"/dir/file", 0o600), Err(libc::EEXIST));
        server.hard_link(b"/dir/file", false, b"/dir/second").unwrap();
        // What a listing brought along holds no longer than the next change.
        let dir = scene.open_rw("/dir", libc::O_RDONLY | libc::O_DIRECTORY, 0).unwrap();
        assert_eq!(names_of(&dir).len(), 3);
        server.rename(b"/dir/file", b"/dir/renamed", 0).unwrap();
        assert_eq!(server.stat(b"/dir/file", true, Rights::ReadWrite).err(), Some(libc::ENOENT));
        assert_eq!(
            scene.stat_rw("/dir/renamed").st_nlink,
            if server.backend() == Backend::Memfd { 0 } else { 2 }
        );
        server.remove(b"/dir/second", false).unwrap();
        assert_eq!(server.stat(b"/dir/second", true, Rights::ReadWrite).err(), Some(libc::ENOENT));
        let size = Some(5);
        server.set_attributes(b"/dir/renamed", true, &Attributes { size, ..Attributes::default() }).unwrap();
        assert_eq!(scene.stat_rw("/dir/renamed").st_size, 5);
        let mtime = Some(Time { now: false, seconds: 1000, nanoseconds: 0 });
        server.set_attributes(b"/dir/renamed", true, &Attributes { mtime, ..Attributes::default() }).unwrap();
        assert_eq!(scene.stat_rw("/dir/renamed").st_mtime, 1000);
        assert_eq!(server.remove(b"/dir", true), Err(libc::ENOTEMPTY));
        assert_eq!(server.remove(b"/missing", false), Err(libc::ENOENT));
    });
}

#[test]
fn what_stands_for_a_path_opens_nothing_before_it_is_read() {
    each(&FUSE, |scene| {
        scene.write("dir/file", b"content");
        symlink("file", scene.tree("dir/link")).unwrap();
        let handle = |path: &str, flags: i32, rights| {
            scene.server().handle(path.as_bytes(), libc::O_PATH | flags, 0, rights).map(File::from)
        };
        // The kernel asks about the root once.
        drop(scene.open("/dir", libc::O_DIRECTORY).unwrap());
        for rights in [Rights::Read, Rights::ReadWrite] {
            scene.pod.take_questions();
            let file = handle("/dir/link", 0, rights).unwrap();
            let folder = handle("/dir", libc::O_DIRECTORY, rights).unwrap();
            assert_eq!(attr::fstat(&file).unwrap().st_size, 7);
            // A node that was forgotten meanwhile has the kernel ask once more how the next one stands.
            assert!(scene.pod.take_questions() <= 3, "one for each");
            assert_eq!(scene.pod.changes.load(Ordering::SeqCst), 0, "nothing was opened");
            assert_eq!(names_of(&folder).len(), 2);
            let mut text = String::new();
            (&file).read_to_string(&mut text).unwrap();
            assert_eq!((text.as_str(), link_text(&file).as_str().ends_with("/dir/file")), ("content", true));
            assert_eq!(handle("/dir/file", libc::O_DIRECTORY, rights).err(), Some(libc::ENOTDIR));
            assert_eq!(handle("/dir/link", libc::O_NOFOLLOW, rights).err(), Some(libc::EOPNOTSUPP));
        }
        // Nobody may read it, and its owner can say that somebody may.
        let closed = handle("/dir/file", 0, Rights::ReadWrite).unwrap();
        std::fs::set_permissions(scene.tree("dir/file"), std::fs::Permissions::from_mode(0o000)).unwrap();
        closed.set_permissions(std::fs::Permissions::from_mode(0o640)).unwrap();
        assert_eq!(std::fs::metadata(scene.tree("dir/file")).unwrap().mode() & 0o7777, 0o640);
    });
}

#[test]
fn a_removed_file_lives_as_long_as_it_is_open() {
    each(&FUSE, |scene| {
        scene.write("file", b"x");
        let mut file = scene.open_rw("/file", libc::O_RDWR, 0).unwrap();
        let folder = scene.open_rw("/", libc::O_DIRECTORY, 0).unwrap();
        let before = attr::fstat(&folder).unwrap();
        std::thread::sleep(Duration::from_millis(12));
        scene.server().remove(b"/file", false).unwrap();
        file.write_all(b"still there").unwrap();
        assert_eq!(attr::fstat(&file).unwrap().st_nlink, 0);
        assert!(link_text(&file).ends_with("/file (deleted)"), "{}", link_text(&file));
        assert_ne!(
            attr::fstat(&folder).unwrap().st_mtime_nsec,
            before.st_mtime_nsec,
            "its folder has changed"
        );
        let other = scene.open_rw("/file", libc::O_RDWR | libc::O_CREAT, 0o600).unwrap();
        assert_eq!(attr::fstat(&other).unwrap().st_size, 0);
        assert_eq!(attr::fstat(&file).unwrap().st_size, 11);
        // Renamed, it is the same file under the other name.
        scene.server().rename(b"/file", b"/name", 0).unwrap();
        assert_eq!(attr::fstat(&other).unwrap().st_ino, scene.stat_rw("/name").st_ino);
        (&other).write_all(b"by the old descriptor").unwrap();
        assert_eq!(scene.text("name"), "by the old descriptor");
    });
}

#[test]
fn locks_hold_between_descriptors_of_a_session() {
    each(&FUSE, |scene| {
        scene.write("file", b"x");
        let (one, two) = (
            scene.open_rw("/file", libc::O_RDWR, 0).unwrap(),
            scene.open_rw("/file", libc::O_RDWR, 0).unwrap(),
        );
        one.lock().unwrap();
        assert!(matches!(two.try_lock(), Err(std::fs::TryLockError::WouldBlock)));
        one.unlock().unwrap();
        two.try_lock().unwrap();
    });
}

#[test]
fn a_new_agent_goes_on_with_the_open_file_and_not_with_another() {
    each(&FUSE, |scene| {
        scene.write("file", b"one");
        let file = scene.open_rw("/file", libc::O_RDWR, 0).unwrap();
        scene.pod.lose_kept();
        file.write_all_at(b"two", 0).unwrap();
        assert_eq!(scene.text("file"), "two");
        scene.pod.lose_kept();
        std::fs::rename(scene.tree("file"), scene.tree("moved")).unwrap();
        scene.write("file", b"other");
        assert_eq!(file.write_all_at(b"xxx", 0).map_err(|error| errno(&error)), Err(libc::EIO));
        assert_eq!((scene.text("file"), scene.text("moved")), ("other".into(), "two".into()));
        scene.pod.lost.store(libc::ECONNRESET as u32, Ordering::SeqCst);
        assert_eq!(file.write_all_at(b"xxx", 0).map_err(|error| errno(&error)), Err(libc::EIO));
    });
}

#[test]
fn where_nothing_can_be_written_reading_works_and_the_reason_is_told() {
    each(&ALL, |scene| {
        scene.write("file", b"x");
        scene.pod.old.store(true, Ordering::SeqCst);
        let read = |path: &str| {
            let mut text = String::new();
            scene.open_rw(path, libc::O_RDONLY, 0).unwrap().read_to_string(&mut text).unwrap();
            text
        };
        assert_eq!(read("/file"), "x");
        let _ = scene.server().take_refusal();
        assert_eq!(scene.open_rw("/file", libc::O_WRONLY, 0).err(), Some(libc::EROFS));
        let why = scene.server().take_refusal().unwrap();
        let expected = if scene.server().backend() == Backend::Memfd { "memory copies" } else { "version" };
        assert!(why.contains(expected), "{why}");
        assert_eq!(scene.server().make_folder(b"/dir", 0o700), Err(libc::EROFS));
        assert_eq!(read("/file"), "x");
        assert!(scene.server().take_refusal().is_some_and(|why| why.contains("version")));
    });
}

#[test]
fn nothing_is_kept_open_once_all_is_closed() {
    each(&FUSE, |scene| {
        for round in 0..10 {
            let mut file = scene.open_rw("/file", libc::O_RDWR | libc::O_CREAT, 0o600).unwrap();
            file.write_all(format!("{round}").as_bytes()).unwrap();
            let _reader = scene.open_rw("/file", libc::O_RDONLY, 0).unwrap();
        }
        let deadline = std::time::Instant::now() + Duration::from_secs(5);
        while scene.pod.kept() > 0 {
            assert!(std::time::Instant::now() < deadline, "{} files are kept open", scene.pod.kept());
            std::thread::sleep(Duration::from_millis(5));
        }
    });
}
