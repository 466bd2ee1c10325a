package main

import (
	"os"

	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/coremain"

	_ "github.com/coredns/coredns/plugin/bind"
	_ "github.com/coredns/coredns/plugin/cache"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/hosts"
	_ "github.com/coredns/coredns/plugin/kubernetes"
)

// serveNames is the cluster's DNS. The list says which plugins there are, and in which order they see a query.
func serveNames(arguments []string) {
	dnsserver.Directives = []string{"bind", "errors", "cache", "hosts", "kubernetes"}
	os.Args = arguments
	coremain.Run()
	os.Exit(0)
}
