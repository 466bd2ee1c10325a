# What `up`, `down` and `build` agree on. Sourced, not run.
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
if [ -z "${CLUSTER_DIR:-}" ]; then
  CLUSTER_DIR=${XDG_CACHE_HOME:+$XDG_CACHE_HOME/mirrord-ide-tests}
  CLUSTER_DIR=${CLUSTER_DIR:-/var/cache/mirrord-ide-tests}/cluster
fi
dir=$CLUSTER_DIR
kube=$dir/bin/kube
export KUBECONFIG=$dir/admin.kubeconfig

# The laptop is this machine; node N is laptop+N. Pods and Services are where the laptop has no way to.
lan=10.123.0
laptop=$lan.1
pods=10.244.0.0/16
services=10.96.0.0/16
first_service=10.96.0.1
cluster_dns=10.96.0.10
node_address() { echo "$lan.$(($1 + 1))"; }
on_node() { local i=$1; shift; nsenter --net="/run/netns/kube-node-$i" "$@"; }
