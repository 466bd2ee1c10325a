package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"time"
)

func where(port string) string { return net.JoinHostPort(arg("host"), arg(port)) }

// greeting reads what the echo server says of us: its token, our address, and our port.
func greeting(reader *bufio.Reader) (string, string) {
	line, err := reader.ReadString('\n')
	words := strings.Fields(line)
	if len(words) != 3 {
		return line + named(err), ""
	}
	return words[0] + " " + words[1], words[2]
}

func hostOf(address net.Addr) string {
	host, _, err := net.SplitHostPort(address.String())
	if err != nil {
		return address.String()
	}
	return host
}

func portOf(address net.Addr) string {
	_, port, _ := net.SplitHostPort(address.String())
	return port
}

func talk(s Seen, connection net.Conn, what string) {
	defer connection.Close()
	connection.SetDeadline(time.Now().Add(5 * time.Second))
	reader := bufio.NewReader(connection)
	said, port := greeting(reader)
	s.saw(what+": greeting", said)
	if _, isUnix := connection.(*net.UnixConn); !isUnix {
		s.saw(what+": own", fmt.Sprint(hostOf(connection.LocalAddr()), port == portOf(connection.LocalAddr()), hostOf(connection.RemoteAddr())))
	}
	io.WriteString(connection, "over and back\n")
	echo, err := reader.ReadString('\n')
	s.gives(what+": echo", echo, err)
	s.does(what+": half closed", connection.(interface{ CloseWrite() error }).CloseWrite())
	end, err := reader.ReadString('\n')
	s.gives(what+": end", end, err)
	_, err = reader.ReadString('\n')
	s.does(what+": after it", err)
}

func dialed(s Seen, network, address, what string) {
	connection, err := net.DialTimeout(network, address, 5*time.Second)
	s.does(what, err)
	if err == nil {
		talk(s, connection, what)
	}
}

// met answers the next caller of a listener and says who it was.
func met(s Seen, listener net.Listener, what string) {
	listener.(*net.TCPListener).SetDeadline(time.Now().Add(8 * time.Second))
	connection, err := listener.Accept()
	if err != nil {
		s.does(what, err)
		return
	}
	defer connection.Close()
	var port string
	fmt.Fscanf(connection, "hello %s\n", &port)
	s.saw(what, fmt.Sprint(hostOf(connection.RemoteAddr()), port == portOf(connection.RemoteAddr()), hostOf(connection.LocalAddr()), portOf(connection.LocalAddr()) == arg("serve")))
	io.WriteString(connection, "bye\n")
}

var socketCases = map[int]func(Seen){
	33: func(s Seen) { dialed(s, "tcp", where("echo"), "tcp") },
	34: func(s Seen) {
		// Go's own sockets are always registered before they are connected; many at once.
		results := make(chan string)
		for range 20 {
			go func() {
				connection, err := net.DialTimeout("tcp", where("echo"), 5*time.Second)
				if err != nil {
					results <- named(err)
					return
				}
				defer connection.Close()
				said, port := greeting(bufio.NewReader(connection))
				results <- fmt.Sprint(said, port == portOf(connection.LocalAddr()))
			}()
		}
		all := map[string]int{}
		for range 20 {
			all[<-results]++
		}
		s.saw("all", all)
	},
	35: func(s Seen) {
		dialed(s, "tcp", where("refused"), "refused")
		dialed(s, "tcp", net.JoinHostPort(arg("unreachable"), "9"), "unreachable")
	},
	36: func(s Seen) {
		connection, err := net.Dial("tcp", where("echo"))
		s.does("dial", err)
		defer connection.Close()
		said, port := greeting(bufio.NewReader(connection))
		raw, _ := connection.(*net.TCPConn).SyscallConn()
		raw.Control(func(fd uintptr) {
			own, err := syscall.Getsockname(int(fd))
			s.gives("own", fmt.Sprint(said, net.IP(own.(*syscall.SockaddrInet4).Addr[:]), fmt.Sprint(own.(*syscall.SockaddrInet4).Port) == port), err)
			peer, err := syscall.Getpeername(int(fd))
			s.gives("peer", fmt.Sprint(net.IP(peer.(*syscall.SockaddrInet4).Addr[:]), fmt.Sprint(peer.(*syscall.SockaddrInet4).Port) == arg("echo")), err)
		})
	},
	37: func(s Seen) {
		dialed(s, "tcp6", net.JoinHostPort(arg("host6"), arg("echo")), "IPv6")
		fd, _ := syscall.Socket(syscall.AF_INET6, syscall.SOCK_STREAM, 0)
		defer syscall.Close(fd)
		mapped := &syscall.SockaddrInet6{}
		copy(mapped.Addr[:], net.ParseIP(arg("host")).To16())
		fmt.Sscan(arg("echo"), &mapped.Port)
		s.does("mapped", syscall.Connect(fd, mapped))
		peer, err := syscall.Getpeername(fd)
		s.gives("peer", peer, err)
	},
	38: func(s Seen) {
		for _, network := range []string{"unix", "unixpacket"} {
			for _, name := range []string{near(fmt.Sprint("own-", os.Getpid())), fmt.Sprint("@own-", os.Getpid())} {
				listener, err := net.Listen(network, name)
				s.does(network+name[:1], err)
				if err != nil {
					continue
				}
				go func() {
					if connection, err := listener.Accept(); err == nil {
						connection.Write([]byte("message"))
						connection.Close()
					}
				}()
				connection, err := net.Dial(network, name)
				s.does("dial "+network+name[:1], err)
				if err == nil {
					said, err := io.ReadAll(connection)
					s.gives("said "+network+name[:1], string(said), err)
					connection.Close()
				}
				listener.Close()
			}
		}
		dialed(s, "unix", arg("unix"), "far")
	},
	39: func(s Seen) {
		connected, err := net.Dial("udp", where("udp"))
		s.does("dial", err)
		defer connected.Close()
		connected.SetDeadline(time.Now().Add(3 * time.Second))
		connected.Write([]byte("one"))
		piece := make([]byte, 200)
		n, err := connected.Read(piece)
		s.gives("connected", string(piece[:n])+hostOf(connected.RemoteAddr()), err)
		for _, host := range []string{"host", "host6"} {
			network := map[string]string{"host": "udp4", "host6": "udp6"}[host]
			loose, err := net.ListenPacket(network, ":0")
			s.does("listen "+network, err)
			to, _ := net.ResolveUDPAddr(network, net.JoinHostPort(arg(host), arg("udp")))
			loose.SetDeadline(time.Now().Add(3 * time.Second))
			_, err = loose.WriteTo([]byte("two"), to)
			s.does("sent "+network, err)
			n, from, err := loose.ReadFrom(piece)
			s.gives("loose "+network, fmt.Sprint(string(piece[:n]), from, from != nil && from.String() == to.String()), err)
			loose.Close()
		}
	},
	40: func(s Seen) {
		loose, _ := net.ListenUDP("udp4", nil)
		defer loose.Close()
		loose.SetDeadline(time.Now().Add(3 * time.Second))
		to, _ := net.ResolveUDPAddr("udp4", where("udp"))
		n, _, err := loose.WriteMsgUDP([]byte("big"), nil, to)
		s.gives("sent", n, err)
		piece := make([]byte, 10)
		n, _, flags, from, err := loose.ReadMsgUDP(piece, nil)
		s.gives("cut", fmt.Sprint(string(piece[:n]), flags&syscall.MSG_TRUNC != 0, from), err)
		connection, err := net.Dial("tcp", where("echo"))
		s.does("dial", err)
		defer connection.Close()
		reader := bufio.NewReader(connection)
		greeting(reader)
		parts := net.Buffers{[]byte("in two "), []byte("parts\n")}
		written, err := parts.WriteTo(connection)
		s.gives("writev", written, err)
		line, err := reader.ReadString('\n')
		s.gives("echo", line, err)
	},
	41: func(s Seen) {
		for _, one := range [][2]string{{"tcp4", ":80"}, {"tcp4", "127.0.0.1:0"}, {"tcp4", ":" + arg("serve")}, {"tcp", ":" + arg("second")}} {
			listener, err := net.Listen(one[0], one[1])
			s.does("listen "+one[1][:1], err)
			if err != nil {
				continue
			}
			_, again := net.Listen(one[0], listener.Addr().String())
			s.saw("at "+one[1], fmt.Sprint(hostOf(listener.Addr()), one[1][0] != ':' || ":"+portOf(listener.Addr()) == one[1], named(again)))
			listener.Close()
		}
	},
	42: func(s Seen) {
		listener, err := net.Listen("tcp4", ":"+arg("serve"))
		s.does("listen", err)
		defer listener.Close()
		for _, what := range []string{"first", "second", "third"} {
			met(s, listener, what)
		}
	},
	43: func(s Seen) {
		listener, err := net.Listen("tcp4", ":"+arg("serve"))
		s.does("listen", err)
		file, err := listener.(*net.TCPListener).File()
		s.does("dup", err)
		listener.Close()
		again, err := net.FileListener(file)
		s.does("once more", err)
		file.Close()
		met(s, again, "dup'ed")
		again.Close()
	},
	44: func(s Seen) {
		listener, err := net.Listen("tcp4", ":80")
		s.does("listen", err)
		if err != nil {
			return
		}
		defer listener.Close()
		for _, host := range []string{"127.0.0.1", arg("own")} {
			connection, err := net.DialTimeout("tcp4", host+":80", 3*time.Second)
			s.does(host, err)
			if err != nil {
				continue
			}
			other, _ := listener.Accept()
			io.WriteString(other, "to myself\n")
			other.Close()
			said, err := io.ReadAll(connection)
			s.gives("said "+host, string(said)+connection.RemoteAddr().String(), err)
			connection.Close()
		}
	},
	45: func(s Seen) {
		connection, err := net.Dial("tcp", where("reset"))
		s.does("dial", err)
		connection.SetDeadline(time.Now().Add(5 * time.Second))
		io.WriteString(connection, "x")
		_, err = io.ReadAll(connection)
		s.does("reset", err)
		connection.Close()
		dialer := net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 77 * time.Second}}
		connection, err = dialer.Dial("tcp", where("echo"))
		s.does("dial", err)
		raw, _ := connection.(*net.TCPConn).SyscallConn()
		raw.Control(func(fd uintptr) {
			alive, _ := syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_KEEPALIVE)
			idle, _ := syscall.GetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_KEEPIDLE)
			delay, _ := syscall.GetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_NODELAY)
			s.saw("options", fmt.Sprint(alive, idle, delay))
		})
		talk(s, connection, "then")
	},
	47: func(s Seen) {
		pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
		s.does("pair", err)
		reading, writing, _ := os.Pipe()
		s.does("sent", syscall.Sendmsg(pair[0], []byte("x"), syscall.UnixRights(int(reading.Fd())), nil, 0))
		room := make([]byte, 64)
		_, n, _, _, err := syscall.Recvmsg(pair[1], make([]byte, 1), room, 0)
		s.does("received", err)
		messages, _ := syscall.ParseSocketControlMessage(room[:n])
		fds, _ := syscall.ParseUnixRights(&messages[0])
		io.WriteString(writing, "through")
		piece := make([]byte, 20)
		count, err := syscall.Read(fds[0], piece)
		s.gives("pipe", string(piece[:count]), err)
	},
}
