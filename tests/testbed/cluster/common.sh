# What the scripts of the test cluster share; they source it, after the test bed's own.
source "$(dirname "${BASH_SOURCE[0]}")/../common.sh"
cluster=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

# Kubernetes decides which etcd, CoreDNS and pause: kubeadm asks for their images by name.
kubernetes=v1.36.3 kind=v0.33.0 containerd=v2.3.4 runc=v1.4.3 plugins=v1.9.1 argo=v4.0.7

# What is made is known by what it is made with.
hash() { (cat "$@" && echo "$kubernetes $kind $containerd $runc $plugins $argo") | sha256sum | cut -c1-12; }
sources=$(cd "$cluster" && hash programs pause.c go/*/*)

# A published image of a node, where one can be pulled, saves a third of the building.
node=${MLCTL_TESTBED_NODE_IMAGE:-mlctl-testbed/node:$kubernetes-$(cd "$cluster" && hash programs pause.c go/*/* images services.sh network.conflist)}
name=${MLCTL_TESTBED_CLUSTER:-mlctl-testbed}

all=${XDG_CACHE_HOME:-$HOME/.cache}/mlctl-testbed
made=$all/cluster-$kubernetes-$argo
bin=$made/bin
export KUBECONFIG=$all/$name/kubeconfig PATH=$bin:$PATH
