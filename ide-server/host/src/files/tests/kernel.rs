//! The same question to the served tree and to the kernel.

use super::*;

/// A tree with one of everything.
fn furnish(scene: &Scene) {
    scene.write("etc/hosts", b"127.0.0.1 localhost\n");
    scene.write("etc/config/..v1/key", b"one");
    symlink("..v1", scene.tree("etc/config/..data")).unwrap();
    symlink("..data/key", scene.tree("etc/config/key")).unwrap();
    symlink("/etc/hosts", scene.tree("absolute")).unwrap();
    symlink("../../../etc/hosts", scene.tree("etc/climbs")).unwrap();
    symlink("loop", scene.tree("loop")).unwrap();
    symlink("nowhere", scene.tree("dangling")).unwrap();
    symlink("etc", scene.tree("folder-link")).unwrap();
    scene.write("empty", b"");
    scene.write("large", &numbers(300_000));
    std::fs::create_dir(scene.tree("bare")).unwrap();
    std::fs::set_permissions(scene.tree("bare"), std::fs::Permissions::from_mode(0o751)).unwrap();
    nix::unistd::mkfifo(&scene.tree("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
}

fn numbers(count: usize) -> Vec<u8> {
    (0..count).flat_map(|number| (number as u32).to_le_bytes()).take(count).collect()
}

const PATHS: &[&str] = &[
    "/",
    "/.",
    "/..",
    "/etc",
    "/etc/",
    "/etc/hosts",
    "/etc//./hosts",
    "/etc/../etc/hosts",
    "/../etc/hosts",
    "/etc/hosts/",
    "/etc/hosts/x",
    "/etc/hosts/..",
    "/etc/config/key",
    "/etc/config/..data",
    "/etc/config/..data/",
    "/etc/config/..data/key",
    "/absolute",
    "/absolute/",
    "/etc/climbs",
    "/loop",
    "/loop/x",
    "/dangling",
    "/dangling/",
    "/folder-link",
    "/folder-link/hosts",
    "/folder-link/../etc/hosts",
    "/empty",
    "/large",
    "/bare",
    "/missing",
    "/missing/x",
    "/missing/..",
    "/pipe/x",
];

#[test]
fn opens_succeed_fail_and_read_as_natively() {
    each(&ALL, |scene| {
        furnish(scene);
        let too_long = format!("/{}", "x".repeat(256));
        let path_too_long = format!("/{}", "x/".repeat(2100));
        let extra = [too_long.as_str(), path_too_long.as_str()];
        for path in PATHS.iter().chain(&extra) {
            for flags in [0, libc::O_NOFOLLOW, libc::O_DIRECTORY, libc::O_DIRECTORY | libc::O_NOFOLLOW] {
                let ours = scene.open(path, flags);
                let native = scene.natively(path, flags).map(File::from);
                assert_eq!(ours.as_ref().err(), native.as_ref().err(), "open {path:.40} with {flags:o}");
                let (Ok(mut ours), Ok(mut native)) = (ours, native) else { continue };
                if native.metadata().unwrap().is_dir() {
                    assert_eq!(names_of(&ours), names_of(&native), "{path}");
                    continue;
                }
                let mut contents = [Vec::new(), Vec::new()];
                ours.read_to_end(&mut contents[0]).unwrap();
                native.read_to_end(&mut contents[1]).unwrap();
                assert!(contents[0] == contents[1], "{path}: {} bytes", contents[0].len());
            }
        }
    });
}

#[test]
fn stats_tell_what_the_kernel_tells() {
    each(&FUSE, |scene| {
        furnish(scene);
        for path in PATHS {
            for follow in [true, false] {
                let flags = libc::O_PATH | if follow { 0 } else { libc::O_NOFOLLOW };
                let ours = scene.server().stat(path.as_bytes(), follow, Rights::Read);
                let native = scene.natively(path, flags).map(|fd| attr::fstat(&fd).unwrap());
                assert_eq!(ours.err(), native.err(), "stat {path}");
                let (Ok(mut ours), Ok(native)) = (ours, native) else { continue };
                assert!(scene.server().owns(ours.st_dev), "{path}");
                ours.st_dev = native.st_dev;
                assert_eq!(told(&ours), told(&native), "{path}");
            }
        }
    });
}

#[test]
fn stat_fstat_and_statx_agree() {
    each(&ALL, |scene| {
        furnish(scene);
        for path in ["/etc/hosts", "/large", "/empty", "/etc", "/", "/etc/config/key"] {
            let before = scene.server().stat(path.as_bytes(), true, Rights::Read).unwrap();
            let open = scene.open(path, 0).unwrap();
            let after = scene.server().stat(path.as_bytes(), true, Rights::Read).unwrap();
            let fd = attr::fstat(&open).unwrap();
            let identity = |stat: &libc::stat| (stat.st_dev, stat.st_ino, stat.st_mode, stat.st_size);
            let backend = scene.server().backend();
            if backend == Backend::Memfd {
                assert_eq!(identity(&before).0, identity(&fd).0, "{path}");
                assert_eq!(identity(&before).1, identity(&fd).1, "{path}");
                assert_eq!(told(&after), told(&fd), "{path}");
            } else {
                assert_eq!(told(&before), told(&fd), "{path}");
                assert_eq!(after.st_blksize, fd.st_blksize, "{path}");
            }
            let x =
                scene.server().statx(path.as_bytes(), true, libc::STATX_BASIC_STATS, Rights::Read).unwrap();
            // SAFETY: plain integers.
            let mut fx: libc::statx = unsafe { std::mem::zeroed() };
            // SAFETY: the path is a constant, the struct ours.
            let done = unsafe {
                libc::statx(
                    open.as_raw_fd(),
                    c"".as_ptr(),
                    libc::AT_EMPTY_PATH,
                    libc::STATX_BASIC_STATS,
                    &raw mut fx,
                )
            };
            assert_eq!(done, 0);
            let told = |x: &libc::statx| {
                let times = [x.stx_mtime, x.stx_ctime].map(|time| (time.tv_sec, time.tv_nsec));
                let dev = (x.stx_dev_major, x.stx_dev_minor, x.stx_ino, x.stx_mode, x.stx_nlink);
                (dev, x.stx_size, x.stx_uid, x.stx_gid, x.stx_blksize, x.stx_blocks, times)
            };
            assert_eq!(told(&x), told(&fx), "{path}");
        }
    });
}

#[test]
fn links_read_as_natively() {
    each(&ALL, |scene| {
        furnish(scene);
        for path in ["/absolute", "/etc/climbs", "/loop", "/dangling", "/folder-link", "/etc/config/..data"] {
            let native = std::fs::read_link(scene.tree(path)).unwrap().into_os_string().into_encoded_bytes();
            assert_eq!(scene.server().readlink(path.as_bytes()), Ok(native), "{path}");
        }
        assert_eq!(scene.server().readlink(b"/etc/hosts"), Err(libc::EINVAL));
        assert_eq!(scene.server().readlink(b"/missing"), Err(libc::ENOENT));
        assert_eq!(scene.server().readlink(b"/folder-link/"), Err(libc::EINVAL));
    });
}

#[test]
fn what_would_write_is_refused_as_on_a_read_only_mount() {
    each(&ALL, |scene| {
        furnish(scene);
        use libc::{O_CREAT, O_DIRECTORY, O_EXCL, O_RDWR, O_TMPFILE, O_TRUNC, O_WRONLY};
        for (path, flags, errno) in [
            ("/etc/hosts", O_WRONLY, libc::EROFS),
            ("/etc/hosts", O_RDWR, libc::EROFS),
            ("/etc/hosts", O_TRUNC, libc::EROFS),
            ("/etc/hosts", O_WRONLY | O_CREAT, libc::EROFS),
            ("/etc/hosts", O_WRONLY | O_CREAT | O_EXCL, libc::EEXIST),
            ("/dangling", O_WRONLY | O_CREAT | O_EXCL, libc::EEXIST),
            ("/etc/new", O_WRONLY | O_CREAT, libc::EROFS),
            ("/etc/new", O_WRONLY, libc::ENOENT),
            ("/missing/new", O_WRONLY | O_CREAT, libc::ENOENT),
            ("/etc/hosts/new", O_WRONLY | O_CREAT, libc::ENOTDIR),
            ("/etc", O_WRONLY, libc::EISDIR),
            ("/etc", O_CREAT, libc::EISDIR),
            ("/etc", O_TMPFILE | O_RDWR, libc::EROFS),
            ("/etc", O_TMPFILE, libc::EINVAL),
            ("/etc/hosts", O_DIRECTORY | O_WRONLY, libc::ENOTDIR),
            // The pod's other end is not here: neither waited for nor pretended.
            ("/pipe", 0, libc::ENXIO),
        ] {
            assert_eq!(scene.open(path, flags).err(), Some(errno), "{path} {flags:o}");
        }
        // Reading with O_CREAT opens what is there, as the kernel does on a read-only mount.
        assert!(scene.open("/etc/hosts", O_CREAT).is_ok());
        // The descriptor itself leads to no writable one.
        let open = scene.open("/etc/hosts", 0).unwrap();
        let again = format!("/proc/self/fd/{}", open.as_raw_fd());
        match scene.server().backend() {
            // A memfd of one's own can be opened for writing; the seals hold all the same.
            Backend::Memfd => {
                use std::io::Write as _;
                if let Ok(mut file) = File::options().write(true).open(&again) {
                    assert_eq!(file.write(b"x").unwrap_err().raw_os_error(), Some(libc::EPERM));
                }
            }
            _ => {
                let refused = File::options().write(true).open(&again).unwrap_err();
                assert_eq!(refused.raw_os_error(), Some(libc::EROFS));
            }
        }
    });
}

#[test]
fn access_goes_by_the_mode_bits_and_the_pods_process() {
    for way in ALL {
        for (uid, gid) in [(0, 0), (500, 0), (0, 500), (7, 7)] {
            let Some(scene) = Scene::with_creds(way, uid, gid) else { continue };
            scene.write("open/file", b"x");
            scene.write("shut/file", b"x");
            let chmod = |path: &str, mode| {
                std::fs::set_permissions(scene.tree(path), std::fs::Permissions::from_mode(mode)).unwrap();
            };
            chmod("open/file", 0o640);
            chmod("shut", 0o700);
            let owner = |path: &str| {
                use std::os::unix::fs::MetadataExt;
                let meta = scene.tree(path).metadata().unwrap();
                (meta.uid(), meta.gid())
            };
            let (file_uid, file_gid) = owner("open/file");
            let may_read = uid == 0 || uid == file_uid || gid == file_gid;
            let expected = if may_read { Ok(()) } else { Err(libc::EACCES) };
            assert_eq!(
                scene.server().access(b"/open/file", libc::R_OK, true, Rights::Read),
                expected,
                "{uid} {gid}"
            );
            assert_eq!(scene.open("/open/file", 0).map(drop), expected, "{uid} {gid}");
            assert_eq!(
                scene.server().access(b"/open/file", libc::X_OK, true, Rights::Read),
                Err(libc::EACCES)
            );
            assert_eq!(
                scene.server().access(b"/open/file", libc::W_OK, true, Rights::Read),
                Err(libc::EROFS)
            );
            assert_eq!(scene.server().access(b"/open", libc::X_OK, true, Rights::Read), Ok(()));
            assert_eq!(scene.server().access(b"/missing", libc::F_OK, true, Rights::Read), Err(libc::ENOENT));
            let may_search = uid == 0 || uid == owner("shut").0;
            let expected = if may_search { Ok(()) } else { Err(libc::EACCES) };
            assert_eq!(
                scene.server().access(b"/shut/file", libc::F_OK, true, Rights::Read),
                expected,
                "{uid} {gid}"
            );
            assert_eq!(
                scene.server().stat(b"/shut/file", true, Rights::Read).map(drop),
                expected,
                "{uid} {gid}"
            );
            assert_eq!(scene.open("/shut/file", 0).map(drop), expected, "{uid} {gid}");
            let expected = if may_search { libc::ENOENT } else { libc::EACCES };
            assert_eq!(scene.open("/shut/missing", 0).err(), Some(expected), "{uid} {gid}");
        }
    }
}

#[test]
fn resolve_flags_are_kept() {
    each(&ALL, |scene| {
        furnish(scene);
        let open =
            |path: &str, resolve| scene.server().open(path.as_bytes(), 0, 0, resolve, Rights::Read).map(drop);
        assert_eq!(open("/etc/hosts", libc::RESOLVE_NO_SYMLINKS), Ok(()));
        assert_eq!(open("/absolute", libc::RESOLVE_NO_SYMLINKS), Err(libc::ELOOP));
        assert_eq!(open("/folder-link/hosts", libc::RESOLVE_NO_SYMLINKS), Err(libc::ELOOP));
        assert_eq!(open("/absolute", libc::RESOLVE_NO_MAGICLINKS), Ok(()));
        assert_eq!(open("/etc/hosts", libc::RESOLVE_NO_XDEV), Ok(()));
        assert_eq!(open("/etc/hosts", libc::RESOLVE_CACHED), Err(libc::EAGAIN));
        assert_eq!(open("/etc/hosts", libc::RESOLVE_BENEATH), Ok(()));
        assert_eq!(open("/absolute", libc::RESOLVE_BENEATH), Err(libc::EXDEV));
        assert_eq!(open("/etc/../etc/hosts", libc::RESOLVE_IN_ROOT), Err(libc::EXDEV));
    });
}
