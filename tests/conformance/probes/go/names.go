package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sort"
	"time"
)

// lookedUp gives all addresses, sorted, or what the resolver calls the failure.
func lookedUp(network, name string) string {
	until, cancel := context.WithTimeout(context.Background(), 8*time.Second)
	defer cancel()
	found, err := net.DefaultResolver.LookupIP(until, network, name)
	var problem *net.DNSError
	if errors.As(err, &problem) {
		return fmt.Sprintf("[not found %t, timeout %t]", problem.IsNotFound, problem.IsTimeout)
	}
	texts := []string{}
	for _, one := range found {
		texts = append(texts, one.String())
	}
	sort.Strings(texts)
	return fmt.Sprint(texts, named(err))
}

func resolved(s Seen) {
	s.saw("any family", lookedUp("ip", arg("known")))
	s.saw("IPv4", lookedUp("ip4", arg("known")))
	s.saw("with a dot", lookedUp("ip4", arg("whole")))
}

var nameCases = map[int]func(Seen){
	50: resolved,
	51: resolved,
	54: func(s Seen) {
		s.saw("short", lookedUp("ip4", arg("short")))
		s.saw("with one dot", lookedUp("ip4", arg("one-dot")))
	},
	55: func(s Seen) {
		s.saw("unknown", lookedUp("ip", arg("unknown")))
		s.saw("only IPv6", lookedUp("ip", arg("known6")))
		s.saw("no IPv4", lookedUp("ip4", arg("known6")))
		s.saw("too many for one datagram", lookedUp("ip4", arg("crowd")))
	},
	56: func(s Seen) {
		s.saw("in hosts", lookedUp("ip4", arg("in-hosts")))
		own, err := os.Hostname()
		s.gives("own", own+lookedUp("ip4", own), err)
	},
	58: func(s Seen) {
		found, err := net.LookupAddr(arg("reverse"))
		s.saw("name", fmt.Sprint(found, err != nil))
	},
}
