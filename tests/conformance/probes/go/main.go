// The probe in Go: `probe NAME=VALUE... CASE...` does each case and prints what it saw, one line of JSON each. Built
// static and stripped, where system calls are Go's own, and with cgo, where names are resolved by libc.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

var arguments = map[string]string{}

// Seen is what the case at hand saw.
type Seen map[string]any

func (s Seen) saw(key string, value any) { s[key] = fmt.Sprint(value) }

// does notes "ok" or the name of the error.
func (s Seen) does(key string, err error) { s[key] = named(err) }

// gives notes a value, or the name of the error.
func (s Seen) gives(key string, value any, err error) {
	if err != nil {
		value = named(err)
	}
	s[key] = fmt.Sprint(value)
}

var names = map[syscall.Errno]string{
	syscall.EPERM: "EPERM", syscall.ENOENT: "ENOENT", syscall.EIO: "EIO", syscall.ENXIO: "ENXIO", syscall.EBADF: "EBADF", syscall.EAGAIN: "EAGAIN",
	syscall.EACCES: "EACCES", syscall.EFAULT: "EFAULT", syscall.EBUSY: "EBUSY", syscall.EEXIST: "EEXIST", syscall.EXDEV: "EXDEV",
	syscall.ENOTDIR: "ENOTDIR", syscall.EISDIR: "EISDIR", syscall.EINVAL: "EINVAL", syscall.EFBIG: "EFBIG", syscall.EROFS: "EROFS",
	syscall.EPIPE: "EPIPE", syscall.ENAMETOOLONG: "ENAMETOOLONG", syscall.ENOSYS: "ENOSYS", syscall.ENOTEMPTY: "ENOTEMPTY", syscall.ELOOP: "ELOOP",
	syscall.ENODATA: "ENODATA", syscall.EOPNOTSUPP: "EOPNOTSUPP", syscall.EADDRINUSE: "EADDRINUSE", syscall.ENETUNREACH: "ENETUNREACH",
	syscall.ECONNRESET: "ECONNRESET", syscall.ETIMEDOUT: "ETIMEDOUT", syscall.ECONNREFUSED: "ECONNREFUSED", syscall.EHOSTUNREACH: "EHOSTUNREACH",
	syscall.EINPROGRESS: "EINPROGRESS", syscall.ENOTCONN: "ENOTCONN", syscall.EADDRNOTAVAIL: "EADDRNOTAVAIL", syscall.EMSGSIZE: "EMSGSIZE",
}

func named(err error) string {
	var errno syscall.Errno
	switch {
	case err == nil:
		return "ok"
	case errors.As(err, &errno):
		if name, ok := names[errno]; ok {
			return name
		}
		return fmt.Sprintf("errno %d", int(errno))
	case errors.Is(err, os.ErrDeadlineExceeded):
		return "deadline"
	}
	return err.Error()
}

func arg(name string) string {
	value, ok := arguments[name]
	if !ok {
		panic("no argument " + name)
	}
	return value
}

func dir(name string) string  { return arg("dir") + "/" + name }
func near(name string) string { return arg("local") + "/" + name }

func until(seconds float64, check func() bool) bool {
	for end := time.Now().Add(time.Duration(seconds * float64(time.Second))); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if check() {
			return true
		}
	}
	return false
}

func run(number int, does func(Seen)) {
	seen := Seen{"case": number}
	defer func() {
		if problem := recover(); problem != nil {
			seen.saw("raised", problem)
		}
		line, _ := json.Marshal(seen)
		fmt.Println(string(line))
	}()
	does(seen)
}

func main() {
	for _, word := range os.Args[1:] {
		if name, value, found := strings.Cut(word, "="); found {
			arguments[name] = value
		}
	}
	all := map[int]func(Seen){}
	for _, group := range []map[int]func(Seen){fileCases, socketCases, nameCases, processCases} {
		for number, does := range group {
			all[number] = does
		}
	}
	for _, word := range os.Args[1:] {
		if strings.Contains(word, "=") {
			continue
		}
		number, _ := strconv.Atoi(word)
		if does, ok := all[number]; ok {
			run(number, does)
		} else {
			fmt.Printf("{\"case\": %d, \"missing\": \"the probe has no such case\"}\n", number)
		}
	}
}
