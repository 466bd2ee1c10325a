package main

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
	"syscall"
	"time"
)

func content(name string) string {
	data, err := os.ReadFile(name)
	if err != nil {
		return "[" + named(err) + "]"
	}
	return strings.TrimRight(string(data), "\n")
}

func contentAt(folder int, name string) string {
	fd, err := syscall.Openat(folder, name, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return "[" + named(err) + "]"
	}
	defer syscall.Close(fd)
	data := make([]byte, 4096)
	n, err := syscall.Read(fd, data)
	if err != nil {
		return "[" + named(err) + "]"
	}
	return strings.TrimRight(string(data[:n]), "\n")
}

func opened(name string, flags int) error {
	file, err := os.OpenFile(name, flags, 0o644)
	if err == nil {
		file.Close()
	}
	return err
}

func climbing(name string) string { return "../../../../../../../.." + name }

func stat(name string) (seen syscall.Stat_t) {
	if err := syscall.Stat(name, &seen); err != nil {
		panic(err)
	}
	return
}

func tree(root string) (found []string) {
	filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		found = append(found, fmt.Sprint(strings.TrimPrefix(path, root), entry != nil && entry.IsDir(), named(err)))
		return nil
	})
	return
}

var fileCases = map[int]func(Seen){
	1: func(s Seen) {
		fd, err := syscall.Open(dir("file"), syscall.O_RDONLY, 0)
		s.does("open", err)
		data := make([]byte, 100)
		n, err := syscall.Read(fd, data)
		s.gives("content", string(data[:max(n, 0)]), err)
		s.does("close", syscall.Close(fd))
		s.does("close again", syscall.Close(fd))
		s.saw("as one", content(dir("file")))
	},
	2: func(s Seen) {
		local, _ := syscall.Open(arg("local"), syscall.O_RDONLY, 0)
		defer syscall.Close(local)
		s.saw("no descriptor", contentAt(-1, dir("file")))
		s.saw("a local one", contentAt(local, dir("file")))
		s.saw("a local path", contentAt(-1, near("near")))
	},
	3: func(s Seen) {
		folder, err := syscall.Open(dir("sub"), syscall.O_RDONLY|syscall.O_DIRECTORY, 0)
		s.does("folder", err)
		defer syscall.Close(folder)
		s.saw("below", contentAt(folder, "deep/leaf"))
		s.saw("above", contentAt(folder, "../file"))
		s.saw("none", contentAt(folder, "none"))
		s.does("access", syscall.Faccessat(folder, "deep/leaf", 4, 0))
	},
	4: func(s Seen) {
		folder, _ := syscall.Open(arg("local"), syscall.O_RDONLY, 0)
		defer syscall.Close(folder)
		s.saw("near", contentAt(folder, "near"))
		s.saw("far", contentAt(folder, climbing(dir("file"))))
	},
	5: func(s Seen) {
		s.saw("one", content(dir("sub/../file")))
		s.saw("two", content(dir("sub/deep/../../file")))
		s.saw("slashes", content(dir("./sub//deep/./leaf")))
		s.saw("through none", content(dir("none/../file")))
	},
	6: func(s Seen) {
		there := dir(climbing(near("near")))
		s.saw("content", content(there))
		s.saw("stat", stat(there).Size)
		s.does("access", syscall.Access(there, 4))
		s.saw("none", content(dir(climbing("/none-of-that-name"))))
	},
	7: func(s Seen) {
		text, err := os.Readlink(dir("link"))
		s.gives("text", text, err)
		s.saw("content", content(dir("link")))
		_, err = os.Readlink(dir("file"))
		s.does("no link", err)
		seen, err := os.Lstat(dir("link"))
		s.gives("lstat", seen.Mode().Type(), err)
		s.saw("below a link", content(dir("dirlink/deep/leaf")))
		s.does("not followed", opened(dir("link"), os.O_RDONLY|syscall.O_NOFOLLOW))
	},
	8: func(s Seen) {
		s.saw("in the volume", content(dir("abslink")))
		s.saw("out of it", content(dir("outlink")))
		s.saw("dangling", content(dir("dangling")))
	},
	9: func(s Seen) {
		found := map[string]bool{}
		s.saw("both", until(5, func() bool { found[content(dir("config/version"))] = true; return len(found) > 1 }))
		s.saw("seen", found)
		s.saw("stable", content(dir("config/stable")))
	},
	10: func(s Seen) {
		entries, err := os.ReadDir(dir("tree"))
		s.gives("ReadDir", fmt.Sprint(len(entries), entries), err)
		found, err := filepath.Glob(dir("tree/*.txt"))
		s.gives("Glob", len(found), err)
		s.saw("WalkDir", tree(dir("tree")))
		real, err := filepath.EvalSymlinks(dir("dirlink/../link"))
		s.gives("EvalSymlinks", real, err)
		made, err := os.CreateTemp(arg("local"), "made-")
		s.does("CreateTemp", err)
		made.Close()
		s.does("Remove", os.Remove(made.Name()))
		data, err := fs.ReadFile(os.DirFS(arg("dir")), "sub/deep/leaf")
		s.gives("DirFS", string(data), err)
	},
	11: func(s Seen) {
		first, _ := syscall.Open(dir("file"), syscall.O_RDONLY, 0)
		second, _ := syscall.Open(dir("file"), syscall.O_RDONLY, 0)
		same, _ := syscall.Dup(first)
		for at, fd := range []int{first, second, same} {
			piece := make([]byte, 3)
			_, err := syscall.Read(fd, piece)
			s.gives(fmt.Sprint("read ", at), string(piece), err)
		}
		at, err := syscall.Seek(first, 0, io.SeekCurrent)
		s.gives("shared", at, err)
		for _, fd := range []int{first, second, same} {
			syscall.Close(fd)
		}
	},
	12: func(s Seen) {
		file, err := os.Open(dir("file"))
		s.does("open", err)
		defer file.Close()
		piece := make([]byte, 7)
		n, err := file.ReadAt(piece, 1)
		s.gives("ReadAt", fmt.Sprint(n, string(piece)), err)
		n, err = file.ReadAt(piece, 1<<20)
		s.gives("beyond", n, err)
		end, err := file.Seek(0, io.SeekEnd)
		s.gives("end", end, err)
		_, err = file.Seek(-1, io.SeekStart)
		s.does("before", err)
		big, _ := os.Open(dir("big"))
		defer big.Close()
		at, err := big.Seek(1<<20, 3)
		s.gives("data", at, err)
		at, err = big.Seek(0, 4)
		s.gives("hole", at, err)
	},
	13: func(s Seen) {
		file, _ := os.Open(dir("block"))
		defer file.Close()
		private, err := syscall.Mmap(int(file.Fd()), 0, 65536, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE)
		s.does("private", err)
		shared, err := syscall.Mmap(int(file.Fd()), 0, 65536, syscall.PROT_READ, syscall.MAP_SHARED)
		s.does("shared", err)
		sum := 0
		for _, one := range shared {
			sum = sum*31 + int(one)
		}
		private[0] = '#'
		s.saw("text", string(private[:20])+string(shared[:20])+string(shared[32768:32800]))
		s.saw("all of it", sum)
		_, err = syscall.Mmap(int(file.Fd()), 0, 4096, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
		s.does("to be written", err)
		syscall.Munmap(private)
		syscall.Munmap(shared)
	},
	14: func(s Seen) {
		for _, name := range []string{"file", "sub", "big"} {
			file, err := os.Open(dir(name))
			s.does(name, err)
			var byFd syscall.Stat_t
			syscall.Fstat(int(file.Fd()), &byFd)
			file.Close()
			byPath := stat(dir(name))
			s.saw(name, fmt.Sprintf("%t %t %o %d %d %d", byPath.Ino == byFd.Ino, byPath.Dev == byFd.Dev, byPath.Mode, byPath.Size, byPath.Nlink, byPath.Mtim.Sec))
		}
	},
	15: func(s Seen) {
		copied := near("copy-" + arg("name"))
		for _, words := range [][]string{{"cp", "-r", dir("tree"), copied}, {"diff", "-r", dir("tree"), copied}, {"ls", "-lgo", "--time-style=+", dir("tree")},
			{"tar", "-C", arg("dir"), "-cf", "/dev/null", "tree"}, {"find", dir("tree"), "-name", "a.txt", "-size", "-2"}} {
			said, err := exec.Command(words[0], words[1:]...).CombinedOutput()
			s.saw(words[0], named(err)+" "+string(said))
		}
		os.RemoveAll(copied)
	},
	16: func(s Seen) {
		value := make([]byte, 200)
		n, err := syscall.Getxattr(dir("xattr"), "user.probe", value)
		s.gives("get", string(value[:max(n, 0)]), err)
		_, err = syscall.Getxattr(dir("xattr"), "user.none", value)
		s.does("none", err)
		n, err = syscall.Listxattr(dir("xattr"), value)
		s.gives("listed", bytes.Contains(value[:max(n, 0)], []byte("user.probe")), err)
	},
	17: func(s Seen) {
		folder, err := os.Open(dir("many"))
		s.does("open", err)
		defer folder.Close()
		for round := 0; round < 2; round++ {
			found, err := folder.Readdirnames(-1)
			sort.Strings(found)
			s.gives(fmt.Sprint("round ", round), fmt.Sprint(len(found), found[0], found[len(found)-1]), err)
			_, err = folder.Seek(0, io.SeekStart)
			s.does("rewound", err)
		}
	},
	18: func(s Seen) {
		s.does("ENOENT", opened(dir("none"), os.O_RDONLY))
		s.does("ENOTDIR", opened(dir("file/x"), os.O_RDONLY))
		s.does("EISDIR", opened(dir("sub"), os.O_WRONLY))
		s.does("ELOOP", opened(dir("loop"), os.O_RDONLY))
		s.does("ENAMETOOLONG of a name", opened(dir(strings.Repeat("x", 299)), os.O_RDONLY))
		s.does("ENAMETOOLONG of a path", opened(strings.Repeat("/y", 3000), os.O_RDONLY))
		s.does("EACCES", opened(dir("closed"), os.O_RDONLY))
		s.does("access", syscall.Access(dir("file"), 1))
		_, err := os.ReadFile(dir("sub"))
		s.does("EISDIR on read", err)
	},
	19: func(s Seen) {
		name := arg("ro") + "/banner.txt"
		s.does("write", opened(name, os.O_WRONLY))
		s.does("append", opened(name, os.O_WRONLY|os.O_APPEND))
		s.does("new", opened(arg("ro")+"/new", os.O_WRONLY|os.O_CREATE|os.O_EXCL))
		s.does("unlink", syscall.Unlink(name))
		s.does("mkdir", os.Mkdir(arg("ro")+"/new", 0o755))
		s.does("chmod", os.Chmod(name, 0o600))
		s.does("truncate", os.Truncate(name, 0))
		s.does("rename", os.Rename(name, arg("ro")+"/other"))
		s.saw("content", content(name))
	},
	20: func(s Seen) {
		name := dir("w-" + arg("name"))
		before := syscall.Umask(0o027)
		defer syscall.Umask(before)
		file, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666)
		s.does("new", err)
		if err != nil {
			return
		}
		defer file.Close()
		_, err = file.WriteString("first line\n")
		s.does("write", err)
		s.saw("read at once", content(name))
		s.does("again", opened(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL))
		more, err := os.OpenFile(name, os.O_WRONLY|os.O_APPEND, 0)
		s.does("append", err)
		more.WriteString("second\n")
		more.Close()
		file.WriteAt([]byte("F"), 0)
		s.saw("both", content(name))
		seen := stat(name)
		s.saw("mode and size", fmt.Sprintf("%o %d", seen.Mode, seen.Size))
		s.does("truncate", file.Truncate(3))
		s.does("sync", file.Sync())
		s.saw("cut", content(name))
		s.does("remove", os.Remove(name))
		s.saw("gone", content(name))
	},
	21: func(s Seen) {
		s.does("rename to there", os.Rename(near("near"), dir("near-"+arg("name"))))
		s.does("rename from there", os.Rename(dir("file"), near("taken")))
		s.does("link from there", os.Link(dir("file"), near("taken")))
		s.saw("near", content(near("near")))
	},
	22: func(s Seen) {
		folder := dir("d-" + arg("name"))
		s.does("mkdir", os.Mkdir(folder, 0o750))
		s.does("new", os.WriteFile(folder+"/one", []byte("x"), 0o644))
		s.does("link", os.Link(folder+"/one", folder+"/two"))
		s.does("symlink", os.Symlink("one", folder+"/three"))
		text, err := os.Readlink(folder + "/three")
		s.gives("text", text, err)
		s.does("chmod", os.Chmod(folder+"/one", 0o600))
		s.does("times", os.Chtimes(folder+"/one", time.Unix(1000000000, 0), time.Unix(1234567890, 0)))
		seen, err := os.Stat(folder + "/one")
		if err == nil {
			s.saw("stat", fmt.Sprint(seen.Mode(), seen.ModTime().Unix(), seen.Sys().(*syscall.Stat_t).Nlink))
		}
		s.does("rename", os.Rename(folder+"/one", folder+"/four"))
		s.does("rmdir of a full one", syscall.Rmdir(folder))
		s.does("remove all", os.RemoveAll(folder))
		s.does("rmdir again", syscall.Rmdir(folder))
	},
	23: func(s Seen) {
		name := near("sent-" + arg("name"))
		source, err := os.Open(dir("block"))
		s.does("open", err)
		defer source.Close()
		target, err := os.Create(name)
		s.does("create", err)
		defer os.Remove(name)
		defer target.Close()
		n, err := io.Copy(target, source) // copy_file_range(2), or what it falls back to
		s.gives("copied", n, err)
		at := int64(0)
		sent, err := syscall.Sendfile(int(target.Fd()), int(source.Fd()), &at, 65536)
		s.gives("sendfile", sent, err)
		start := make([]byte, 40)
		target.ReadAt(start, 0)
		s.saw("start", string(start))
	},
	24: func(s Seen) {
		one, _ := os.Open(dir("file"))
		defer one.Close()
		two, _ := os.Open(dir("file"))
		defer two.Close()
		s.does("shared", syscall.Flock(int(one.Fd()), syscall.LOCK_SH|syscall.LOCK_NB))
		s.does("exclusive beside it", syscall.Flock(int(two.Fd()), syscall.LOCK_EX|syscall.LOCK_NB))
		syscall.Flock(int(one.Fd()), syscall.LOCK_UN)
		s.does("exclusive", syscall.Flock(int(two.Fd()), syscall.LOCK_EX|syscall.LOCK_NB))
		s.does("range", syscall.FcntlFlock(one.Fd(), syscall.F_SETLK, &syscall.Flock_t{Type: syscall.F_RDLCK, Len: 4}))
	},
	25: func(s Seen) {
		file, err := os.Open(dir("big"))
		s.does("open", err)
		defer file.Close()
		seen, err := file.Stat()
		s.gives("size", seen.Size(), err)
		piece := make([]byte, 32)
		n, err := file.ReadAt(piece, 4<<30+123)
		s.gives("far in", fmt.Sprint(n, strings.TrimRight(string(piece), "\x00")), err)
		n, err = file.ReadAt(piece, 3<<30)
		s.gives("a hole", fmt.Sprint(n, bytes.Equal(piece, make([]byte, 32))), err)
	},
	26: func(s Seen) {
		s.saw("size", stat(arg("sizeless")).Size)
		s.saw("content", content(arg("sizeless")))
	},
	27: func(s Seen) {
		back, _ := os.Getwd()
		os.Unsetenv("PWD")
		s.does("chdir", os.Chdir(dir("sub")))
		now, err := syscall.Getwd()
		s.gives("getwd", now, err)
		s.saw("below", content("deep/leaf"))
		s.saw("above", content("../file"))
		command := exec.Command("cat", "leaf")
		command.Dir = dir("sub/deep")
		said, err := command.Output()
		s.gives("child's folder", string(said), err)
		s.does("to none", os.Chdir(dir("none")))
		os.Chdir(back)
		s.saw("near", content(near("near")))
	},
	28: func(s Seen) {
		const oPath = 0x200000
		fd, err := syscall.Open(dir("file"), oPath, 0)
		s.does("O_PATH", err)
		var seen syscall.Stat_t
		s.does("fstat of it", syscall.Fstat(fd, &seen))
		s.saw("size", seen.Size)
		syscall.Close(fd)
		s.does("O_DIRECTORY", opened(dir("file"), os.O_RDONLY|syscall.O_DIRECTORY))
		for _, flag := range []int{0, syscall.O_CLOEXEC} {
			fd, err = syscall.Open(dir("file"), syscall.O_RDONLY|flag, 0)
			flags, _, _ := syscall.Syscall(syscall.SYS_FCNTL, uintptr(fd), syscall.F_GETFD, 0)
			s.gives(fmt.Sprint("flags with ", flag), flags, err)
			syscall.Close(fd)
		}
	},
	30: func(s Seen) {
		told := func(folder string, act func()) bool {
			fd, err := syscall.InotifyInit1(syscall.IN_NONBLOCK | syscall.IN_CLOEXEC)
			if err != nil {
				return false
			}
			defer syscall.Close(fd)
			_, err = syscall.InotifyAddWatch(fd, folder, syscall.IN_CREATE|syscall.IN_MOVED_TO)
			s.does("watch "+filepath.Base(folder)[:1], err)
			act()
			return err == nil && until(2, func() bool { n, _ := syscall.Read(fd, make([]byte, 4096)); return n > 0 })
		}
		s.saw("told", told(dir("config"), func() {}))
		name := near("watched-" + arg("name"))
		s.saw("told of near", told(arg("local"), func() { os.WriteFile(name, nil, 0o600) }))
		os.Remove(name)
	},
	32: func(s Seen) {
		file, _ := os.Open(dir("file"))
		defer file.Close()
		link := fmt.Sprintf("/proc/self/fd/%d", file.Fd())
		text, err := os.Readlink(link)
		s.gives("link", text, err)
		s.saw("reopened", content(link))
		s.saw("the same", stat(link).Ino == stat(dir("file")).Ino)
	},
}
