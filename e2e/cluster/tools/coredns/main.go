// A CoreDNS with the plugins that a one-node cluster needs and no others: the stock main links the
// SDK of every cloud, which doubles the build. There is no `forward`: a name outside the cluster is
// answered with NXDOMAIN (by `template`), so that nothing a pod asks leaves the machine.
package main

import (
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/coremain"

	_ "github.com/coredns/coredns/plugin/bind"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/kubernetes"
	_ "github.com/coredns/coredns/plugin/loadbalance"
	_ "github.com/coredns/coredns/plugin/ready"
	_ "github.com/coredns/coredns/plugin/template"
)

func main() {
	// The order is the order of work: it is the one of the stock CoreDNS.
	dnsserver.Directives = []string{"bind", "ready", "errors", "loadbalance", "template", "kubernetes"}
	coremain.Run()
}
