// Every part of the test cluster in one binary, as one Go build shares most of its code between them: the first
// argument says which part to be.
package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	kubectl "k8s.io/kubectl/pkg/cmd"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllers "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	proxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"
)

// parts that are commands of Kubernetes' own; etcd and CoreDNS have other shapes and files of their own.
var parts = map[string]func() *cobra.Command{
	"kube-apiserver":          apiserver.NewAPIServerCommand,
	"kube-controller-manager": controllers.NewControllerManagerCommand,
	"kube-proxy":              proxy.NewProxyCommand,
	"kube-scheduler":          func() *cobra.Command { return scheduler.NewSchedulerCommand() },
	"kubectl":                 kubectl.NewDefaultKubectlCommand,
	"kubelet":                 func() *cobra.Command { return kubelet.NewKubeletCommand(context.Background()) },
}

func main() {
	if len(os.Args) < 2 {
		usage()
	}
	name, arguments := os.Args[1], os.Args[1:]
	if name == "etcd" && len(os.Args) == 3 {
		serveEtcd(os.Args[2])
	} else if name == "coredns" {
		serveNames(arguments)
	} else if command, known := parts[name]; known {
		// Kubernetes' commands read os.Args themselves and take its first word for their name.
		os.Args = arguments
		os.Exit(cli.Run(command()))
	}
	usage()
}

func usage() {
	names := append(slices.Sorted(maps.Keys(parts)), "etcd FOLDER", "coredns")
	fmt.Fprintln(os.Stderr, "usage: kube PART [FLAGS]; the parts are", strings.Join(names, ", "))
	os.Exit(2)
}
