//! What the pod's changes, slow answers and losses look like; and how often the pod is asked.

use super::*;
use std::time::{Duration, Instant};

#[test]
fn one_question_opens_stats_and_reads() {
    each(&FUSE, |scene| {
        scene.write("a/b/c/file", b"content");
        scene.pod.take_questions();
        let mut open = scene.open("/a/b/c/file", 0).unwrap();
        let mut content = String::new();
        open.read_to_string(&mut content).unwrap();
        assert_eq!(content, "content");
        attr::fstat(&open).unwrap();
        assert_eq!(scene.pod.take_questions(), 1, "open, fstat and read");
        for _ in 0..3 {
            scene.read("/a/b/c/file").unwrap();
        }
        assert_eq!(scene.pod.take_questions(), 3, "one for each later open");
        scene.server().stat(b"/a/b/c/file", true, Rights::Read).unwrap();
        scene.server().access(b"/a/b/c/file", libc::R_OK, true, Rights::Read).unwrap();
        assert_eq!(scene.pod.take_questions(), 2, "one for each call by path");
        assert_eq!(scene.open("/a/b/missing", 0).err(), Some(libc::ENOENT));
        assert_eq!(scene.pod.take_questions(), 1, "one for a failure");
        assert_eq!(scene.server().getxattr(b"/a/b/c/file", true), Err(libc::ENODATA));
        assert_eq!(scene.server().listxattr(b"/a/b/c/file", false), Ok(Vec::new()));
        assert_eq!(scene.pod.take_questions(), 0, "attributes of what was just looked at need none");
        assert_eq!(scene.server().getxattr(b"/a/b/missing", true), Err(libc::ENOENT));
        assert_eq!(scene.server().listxattr(b"/a/b/missing", true), Err(libc::ENOENT));
    });
}

#[test]
fn one_question_lists_a_directory_with_its_stats() {
    each(&FUSE, |scene| {
        for number in 0..20 {
            scene.write(&format!("dir/file{number}"), b"x");
        }
        symlink("file1", scene.tree("dir/link")).unwrap();
        scene.pod.take_questions();
        let open = scene.open("/dir", libc::O_DIRECTORY).unwrap();
        let names = names_of_fd(&open);
        assert_eq!(names.len(), 21);
        for name in &names {
            let path = format!("/dir/{name}");
            let listed = scene.server().stat(path.as_bytes(), false, Rights::Read).unwrap();
            assert_eq!(listed.st_mode & libc::S_IFMT == libc::S_IFLNK, name == "link");
        }
        assert_eq!(scene.pod.take_questions(), 1, "list and stat of all");
        scene.server().stat(b"/dir/file1", false, Rights::Read).unwrap();
        assert_eq!(scene.pod.take_questions(), 1, "a second look at an entry is a look at the pod");
    });
}

/// getdents on the descriptor itself: a reopened one would be asked for anew.
pub(super) fn names_of_fd(folder: &File) -> Vec<String> {
    let fd = folder.try_clone().unwrap();
    let mut names = Vec::new();
    // SAFETY: the stream takes over a descriptor of its own.
    let stream = unsafe { libc::fdopendir(std::os::fd::IntoRawFd::into_raw_fd(fd)) };
    assert!(!stream.is_null());
    loop {
        // SAFETY: the stream is open.
        let entry = unsafe { libc::readdir(stream) };
        if entry.is_null() {
            break;
        }
        // SAFETY: the entry is valid until the next call, its name ends with NUL.
        let name = unsafe { std::ffi::CStr::from_ptr((*entry).d_name.as_ptr()) };
        names.push(name.to_str().unwrap().to_owned());
    }
    // SAFETY: the stream is open and not used again.
    unsafe { libc::closedir(stream) };
    names.retain(|name| name != "." && name != "..");
    names
}

#[test]
fn ten_thousand_entries_are_listed_and_rewound() {
    each(&FUSE, |scene| {
        std::fs::create_dir(scene.tree("many")).unwrap();
        for number in 0..10_000 {
            File::create(scene.tree(&format!("many/entry-{number:05}"))).unwrap();
        }
        let open = scene.open("/many", libc::O_DIRECTORY).unwrap();
        let first = names_of_fd(&open);
        assert_eq!(first.len(), 10_000);
        assert_eq!(first.iter().collect::<BTreeSet<_>>().len(), 10_000);
        File::create(scene.tree("many/later")).unwrap();
        (&open).seek(SeekFrom::Start(0)).unwrap();
        let second = names_of_fd(&open);
        assert_eq!(second.len(), 10_001, "who rewinds sees what came since");
    });
}

#[test]
fn a_swapped_config_map_is_seen_at_the_next_open_and_kept_by_the_open_one() {
    each(&ALL, |scene| {
        scene.write("config/..v1/key", b"one");
        symlink("..v1", scene.tree("config/..data")).unwrap();
        symlink("..data/key", scene.tree("config/key")).unwrap();
        let mut old = scene.open("/config/key", 0).unwrap();
        let old_stat = attr::fstat(&old).unwrap();
        assert_eq!(scene.read("/config/key").unwrap(), b"one");
        scene.write("config/..v2/key", b"two, longer");
        symlink("..v2", scene.tree("config/..data_tmp")).unwrap();
        std::fs::rename(scene.tree("config/..data_tmp"), scene.tree("config/..data")).unwrap();
        std::fs::remove_dir_all(scene.tree("config/..v1")).unwrap();
        assert_eq!(scene.read("/config/key").unwrap(), b"two, longer");
        assert_eq!(scene.server().stat(b"/config/key", true, Rights::Read).unwrap().st_size, 11);
        let mut content = Vec::new();
        old.read_to_end(&mut content).unwrap();
        assert_eq!(content, b"one");
        assert_eq!(attr::fstat(&old).unwrap().st_ino, old_stat.st_ino);
    });
}

#[test]
fn a_file_changed_in_place_is_new_at_the_next_open() {
    each(&ALL, |scene| {
        for round in 0..5 {
            // Of one length, so that only the times tell.
            let content = format!("round {round}");
            scene.write("file", content.as_bytes());
            assert_eq!(scene.read("/file").unwrap(), content.as_bytes());
            // Times are as fine as the clock's tick.
            std::thread::sleep(Duration::from_millis(12));
        }
        std::fs::remove_file(scene.tree("file")).unwrap();
        assert_eq!(scene.read("/file"), Err(libc::ENOENT));
        std::fs::create_dir(scene.tree("file")).unwrap();
        assert_eq!(scene.read("/file"), Err(libc::EISDIR));
        scene.write("dir/x", b"1");
        assert_eq!(scene.read("/dir/x").unwrap(), b"1");
        std::fs::rename(scene.tree("dir"), scene.tree("dir2")).unwrap();
        assert_eq!(scene.read("/dir/x"), Err(libc::ENOENT));
        assert_eq!(scene.read("/dir2/x").unwrap(), b"1");
    });
}

#[test]
fn changed_permissions_show_on_open_descriptors_after_the_next_look() {
    each(&FUSE, |scene| {
        scene.write("file", b"x");
        let dir = scene.open("/", libc::O_DIRECTORY).unwrap();
        assert_eq!(attr::fstat(&dir).unwrap().st_mode & 0o777, 0o755);
        std::fs::set_permissions(scene.tree(""), std::fs::Permissions::from_mode(0o711)).unwrap();
        scene.server().stat(b"/", true, Rights::Read).unwrap();
        assert_eq!(attr::fstat(&dir).unwrap().st_mode & 0o777, 0o711);
    });
}

#[test]
fn two_opens_have_offsets_of_their_own_and_dup_shares() {
    each(&ALL, |scene| {
        scene.write("file", b"0123456789");
        let mut first = scene.open("/file", 0).unwrap();
        let mut second = scene.open("/file", 0).unwrap();
        let mut dup = first.try_clone().unwrap();
        let mut three = [0; 3];
        first.read_exact(&mut three).unwrap();
        assert_eq!(&three, b"012");
        second.read_exact(&mut three).unwrap();
        assert_eq!(&three, b"012");
        dup.read_exact(&mut three).unwrap();
        assert_eq!(&three, b"345");
        first.read_exact_at(&mut three, 7).unwrap();
        assert_eq!(&three, b"789");
        assert_eq!(first.seek(SeekFrom::End(-1)).unwrap(), 9);
        // SAFETY: lseek takes integers.
        let seek = |whence| unsafe { libc::lseek(second.as_raw_fd(), 0, whence) };
        assert_eq!((seek(libc::SEEK_DATA), seek(libc::SEEK_HOLE)), (0, 10));
    });
}

#[test]
fn large_and_sparse_files_are_read_piece_by_piece() {
    each(&FUSE, |scene| {
        const SIZE: u64 = 5 << 30;
        let file = File::create(scene.tree("sparse")).unwrap();
        file.set_len(SIZE).unwrap();
        file.write_at(b"end", SIZE - 3).unwrap();
        file.write_at(b"middle", 4 << 30).unwrap();
        let open = scene.open("/sparse", 0).unwrap();
        assert_eq!(open.metadata().unwrap().len(), SIZE);
        let mut content = [1; 6];
        open.read_exact_at(&mut content, 4 << 30).unwrap();
        assert_eq!(&content, b"middle");
        open.read_exact_at(&mut content[..3], SIZE - 3).unwrap();
        assert_eq!(&content[..3], b"end");
        open.read_exact_at(&mut content, 1 << 30).unwrap();
        assert_eq!(content, [0; 6]);
        assert_eq!(open.read_at(&mut content, SIZE).unwrap(), 0);
        assert_eq!(scene.pod.kept(), 1);
        drop(open);
        wait_for("the kept file is closed", || scene.pod.kept() == 0);
    });
}

fn wait_for(what: &str, done: impl Fn() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(5), "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn a_megabyte_takes_few_questions_and_one_kept_file() {
    each(&FUSE, |scene| {
        let content: Vec<u8> = (0..1u32 << 20).map(|number| (number >> 8) as u8 ^ number as u8).collect();
        scene.write("file", &content);
        scene.pod.take_questions();
        assert!(scene.read("/file").unwrap() == content);
        let questions = scene.pod.take_questions();
        assert!(questions <= 10, "{questions} questions");
        let first = scene.open("/file", 0).unwrap();
        let second = scene.open("/file", 0).unwrap();
        wait_for("a second open keeps no second file", || scene.pod.kept() == 1);
        drop((first, second));
        wait_for("the kept file is closed", || scene.pod.kept() == 0);
        // O_PATH and failures keep none.
        let path = scene.open("/file", libc::O_PATH).unwrap();
        assert_eq!(scene.open("/file", libc::O_WRONLY).err(), Some(libc::EROFS));
        wait_for("nothing is kept", || scene.pod.kept() == 0);
        drop(path);
    });
}

#[test]
fn mapped_files_show_their_content() {
    each(&ALL, |scene| {
        scene.write("file", &[7; 10_000]);
        for flags in [libc::MAP_PRIVATE, libc::MAP_SHARED] {
            let open = scene.open("/file", 0).unwrap();
            // SAFETY: a fresh mapping, read within the file's length and unmapped after.
            unsafe {
                let map =
                    libc::mmap(std::ptr::null_mut(), 10_000, libc::PROT_READ, flags, open.as_raw_fd(), 0);
                assert_ne!(map, libc::MAP_FAILED);
                drop(open);
                assert_eq!(*map.cast::<u8>().add(9_999), 7);
                assert_eq!(*map.cast::<u8>().add(10_100), 0);
                libc::munmap(map, 10_000);
            }
        }
    });
}

#[test]
fn bytes_go_to_other_files_inside_the_kernel() {
    each(&ALL, |scene| {
        scene.write("file", b"0123456789");
        let from = scene.open("/file", 0).unwrap();
        let to = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(scene.tree("out"))
            .unwrap();
        // SAFETY: descriptors are open; no offsets are passed.
        unsafe {
            assert_eq!(libc::sendfile(to.as_raw_fd(), from.as_raw_fd(), std::ptr::null_mut(), 4), 4);
            let null = std::ptr::null_mut();
            let copied = libc::copy_file_range(from.as_raw_fd(), null, to.as_raw_fd(), null, 6, 0);
            assert!(copied == 6 || io::Error::last_os_error().raw_os_error() == Some(libc::EXDEV));
            assert_eq!(libc::flock(from.as_raw_fd(), libc::LOCK_SH | libc::LOCK_NB), 0);
        }
        let mut content = [0; 4];
        to.read_exact_at(&mut content, 0).unwrap();
        assert_eq!(&content, b"0123");
    });
}

#[test]
fn files_without_a_size_are_read_fresh_and_whole() {
    each(&ALL, |scene| {
        scene.pod.sizeless.store(true, Ordering::SeqCst);
        scene.write("proc", b"first");
        assert_eq!(scene.read("/proc").unwrap(), b"first");
        let content = "x".repeat(200_000);
        scene.write("proc", content.as_bytes());
        assert_eq!(scene.read("/proc").unwrap(), content.as_bytes());
        if scene.server().backend() != Backend::Memfd {
            assert_eq!(scene.open("/proc", 0).unwrap().metadata().unwrap().len(), 0);
        }
        scene.write("proc", b"");
        assert_eq!(scene.read("/proc").unwrap(), b"");
    });
}

#[test]
fn descriptors_show_the_pods_path_and_can_be_opened_again() {
    each(&ALL, |scene| {
        scene.write("etc/config/key", b"value");
        symlink("etc", scene.tree("link")).unwrap();
        let dir = scene.open("/link/config", libc::O_DIRECTORY).unwrap();
        let dev = attr::fstat(&dir).unwrap().st_dev;
        let path = scene.server().pod_path(dev, link_text(&dir).as_bytes());
        assert_eq!(path.as_deref(), Some(&b"/etc/config"[..]));
        if scene.server().backend() == Backend::FuseUserns {
            assert_eq!(link_text(&dir), "/etc/config");
            assert_eq!(link_text(&scene.open("/link/config/key", 0).unwrap()), "/etc/config/key");
            assert_eq!(link_text(&scene.open("/", 0).unwrap()), "/");
        }
        assert!(!scene.server().owns(attr::fstat(&File::open("/").unwrap()).unwrap().st_dev));
        let file = scene.open("/etc/config/key", 0).unwrap();
        let mut again = File::open(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap();
        let mut content = String::new();
        again.read_to_string(&mut content).unwrap();
        assert_eq!(content, "value");
        // Close-on-exec here, whatever was asked.
        // SAFETY: fcntl with F_GETFD takes and gives integers.
        assert_eq!(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETFD) }, libc::FD_CLOEXEC);
    });
}

#[test]
fn the_kernels_own_walk_below_a_descriptor_asks_the_pod() {
    each(&FUSE, |scene| {
        scene.write("a/b/file", b"deep");
        symlink("b/file", scene.tree("a/link")).unwrap();
        let dir = scene.open("/a", libc::O_DIRECTORY).unwrap();
        let inside =
            |name: &str| std::fs::read_to_string(format!("/proc/self/fd/{}/{name}", dir.as_raw_fd()));
        assert_eq!(inside("b/file").unwrap(), "deep");
        assert_eq!(inside("link").unwrap(), "deep");
        assert_eq!(inside("missing").unwrap_err().raw_os_error(), Some(libc::ENOENT));
        let path = scene.open("/a/link", libc::O_PATH | libc::O_NOFOLLOW).unwrap();
        assert_eq!(attr::fstat(&path).unwrap().st_mode & libc::S_IFMT, libc::S_IFLNK);
    });
}

#[test]
fn owners_are_the_pods_process_or_somebody_else() {
    each(&FUSE, |scene| {
        scene.write("file", b"x");
        let own = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
        let userns = scene.server().backend() == Backend::FuseUserns;
        let shown = |id: u32, own: u32| if id != own && userns { 65534 } else { id };
        for owner in [own.0, own.1, 4321] {
            scene.pod.owner.store(owner, Ordering::SeqCst);
            let stat = scene.server().stat(b"/file", true, Rights::Read).unwrap();
            assert_eq!((stat.st_uid, stat.st_gid), (shown(owner, own.0), shown(owner, own.1)), "{owner}");
            let open = scene.open("/file", libc::O_PATH).unwrap();
            assert_eq!(told(&attr::fstat(&open).unwrap()), told(&stat), "{owner}");
        }
    });
}

#[test]
fn the_pods_process_is_oneself() {
    for way in FUSE {
        let Some(scene) = Scene::with_creds(way, 4321, 4322) else { continue };
        scene.write("file", b"x");
        scene.pod.owner.store(4321, Ordering::SeqCst);
        let stat = scene.server().stat(b"/file", true, Rights::Read).unwrap();
        assert_eq!(stat.st_uid, nix::unistd::geteuid().as_raw());
        let open = scene.open("/file", 0).unwrap();
        assert_eq!(told(&attr::fstat(&open).unwrap()), told(&stat));
    }
}

#[test]
fn figures_of_the_file_system_are_the_pods() {
    each(&FUSE, |scene| {
        scene.write("file", b"x");
        let native = nix::sys::statvfs::statvfs(&scene.tree("file")).unwrap();
        let shown = scene.server().statfs(b"/file").unwrap();
        assert_eq!(shown.f_blocks, native.blocks());
        assert_eq!(shown.f_type, 0x0102_1994);
        let by_fd = nix::sys::statvfs::fstatvfs(scene.open("/file", 0).unwrap()).unwrap();
        assert_eq!((by_fd.blocks(), by_fd.name_max()), (native.blocks(), native.name_max()));
    });
}

#[test]
fn a_lost_pod_is_an_error_and_no_hang() {
    each(&ALL, |scene| {
        scene.write("small", b"content");
        scene.write("large", &[9; 1 << 20]);
        let mut small = scene.open("/small", 0).unwrap();
        scene.pod.lost.store(libc::EIO as u32, Ordering::SeqCst);
        assert_eq!(scene.open("/small", 0).err(), Some(libc::EIO));
        assert_eq!(scene.server().stat(b"/small", true, Rights::Read).err(), Some(libc::EIO));
        let mut content = String::new();
        small.read_to_string(&mut content).unwrap();
        assert_eq!(content, "content", "what was brought along is still there");
        scene.pod.lost.store(0, Ordering::SeqCst);
        if scene.server().backend() == Backend::Memfd {
            return;
        }
        let large = scene.open("/large", 0).unwrap();
        scene.pod.lose_kept();
        let mut byte = [0];
        large.read_exact_at(&mut byte, 700_000).unwrap();
        assert_eq!(byte, [9], "another agent has the same file");
        drop(large);
        // Content that is in no cache yet.
        scene.write("large", &[8; 2 << 20]);
        let large = scene.open("/large", 0).unwrap();
        scene.pod.lost.store(libc::EIO as u32, Ordering::SeqCst);
        assert_eq!(large.read_at(&mut byte, 1_500_000).unwrap_err().raw_os_error(), Some(libc::EIO));
        scene.pod.lost.store(0, Ordering::SeqCst);
        scene.write("large", &[7; 3 << 20]);
        scene.pod.lose_kept();
        assert_eq!(
            large.read_at(&mut byte, 1_900_000).unwrap_err().raw_os_error(),
            Some(libc::EIO),
            "the version is gone"
        );
    });
}

#[test]
fn a_pod_that_does_not_answer_costs_the_deadline_and_no_more() {
    each(&[Backend::FuseUserns], |scene| {
        scene.write("large", &[9; 2 << 20]);
        let large = scene.open("/large", 0).unwrap();
        scene.pod.slow.store(14_000, Ordering::SeqCst);
        let start = Instant::now();
        let mut byte = [0];
        assert_eq!(large.read_at(&mut byte, 1_500_000).unwrap_err().raw_os_error(), Some(libc::EIO));
        assert!(start.elapsed() < Duration::from_millis(12_500), "{:?}", start.elapsed());
        scene.pod.slow.store(0, Ordering::SeqCst);
        scene.write("other", b"x");
        assert_eq!(scene.read("/other").unwrap(), b"x", "others are served meanwhile");
        std::thread::sleep(Duration::from_secs(4));
        assert_eq!(scene.read("/large").unwrap().len(), 2 << 20, "and the file itself soon after");
    });
}

#[test]
fn the_files_of_a_resolver_come_together_and_are_believed_for_a_moment() {
    each(&ALL, |scene| {
        scene.write("etc/resolv.conf", b"nameserver 10.0.0.1");
        scene.write("etc/hosts", b"old");
        scene.pod.slow.store(400, Ordering::SeqCst);
        let start = Instant::now();
        scene.server().stat(b"/etc/resolv.conf", true, Rights::Read).unwrap();
        assert_eq!(scene.read("/etc/resolv.conf").unwrap(), b"nameserver 10.0.0.1");
        assert_eq!(scene.read("/etc/hosts").unwrap(), b"old");
        assert_eq!(scene.read("/etc/gai.conf"), Err(libc::ENOENT));
        assert!(
            start.elapsed() < Duration::from_millis(790),
            "more than one round trip: {:?}",
            start.elapsed()
        );
        scene.pod.slow.store(0, Ordering::SeqCst);
        scene.write("etc/hosts", b"new, and longer");
        wait_for("the change is seen", || scene.read("/etc/hosts").unwrap() == b"new, and longer");
        // What is no regular file is the pod's own affair.
        assert_eq!(scene.server().readlink(b"/etc/hosts").err(), Some(libc::EINVAL));
    });
}

#[test]
fn many_threads_open_change_and_list_at_once() {
    each(&FUSE, |scene| {
        scene.write("dir/shared", b"v0");
        std::thread::scope(|threads| {
            for thread in 0..6 {
                threads.spawn(move || {
                    for round in 0..150 {
                        let own = format!("dir/own{thread}-{}", round % 3);
                        scene.write(&own, format!("{thread} {round}").as_bytes());
                        let read = scene.read(&format!("/{own}")).unwrap();
                        assert!(read.starts_with(thread.to_string().as_bytes()));
                        assert_eq!(scene.read("/dir/shared").unwrap(), b"v0");
                        scene.server().stat(b"/dir/shared", true, Rights::Read).unwrap();
                        assert_eq!(scene.read("/dir/missing"), Err(libc::ENOENT));
                        if round % 25 == 0 {
                            assert!(names_of(&scene.open("/dir", 0).unwrap()).contains("shared"));
                        }
                    }
                });
            }
        });
    });
}

#[test]
fn the_way_by_memory_copies_says_what_it_cannot() {
    each(&[Backend::Memfd], |scene| {
        let file = File::create(scene.tree("huge")).unwrap();
        file.set_len((256 << 20) + 1).unwrap();
        assert_eq!(scene.open("/huge", 0).err(), Some(libc::EFBIG));
        assert!(scene.server().stat(b"/huge", true, Rights::Read).is_ok());
        assert!(scene.server().why_not().contains("not asked for"), "{}", scene.server().why_not());
        wait_for("nothing is kept", || scene.pod.kept() == 0);
    });
}
