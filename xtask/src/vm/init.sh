#!/bin/sh
# The guest's first process: mounts what a machine has, follows /plan, and ends the machine. What
# it says goes to the second serial port, where the kernel does not interrupt.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin HOME=/root TMPDIR=/tmp EGRESS_TRACER_PATIENCE=10
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
exec </dev/null >/dev/ttyS1 2>&1
mkdir -p /dev/pts /dev/shm /run/netns
mount -t devpts devpts /dev/pts
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
mount -t tmpfs -o mode=1777 tmpfs /tmp
ln -s /proc/self/fd /dev/fd
mount -t cgroup2 none /sys/fs/cgroup
mount -t tracefs none /sys/kernel/tracing
mount -t bpf bpf /sys/fs/bpf
ip link set lo up
# Loaded at boot by a machine that has them; what asks for them by address family does not wait.
for module in veth tun vsock_loopback inet_diag tcp_diag udp_diag raw_diag nf_conntrack_netlink nf_tables \
    nft_nat nft_chain_nat sctp mptcp_diag; do
    modprobe -q $module
done
echo "kernel $(uname -r)"

# A target of tests, and those of it to run: by their whole names, or all but some.
tests() {
    target=$1
    shift
    $within /tests/$target --test-threads=2 --show-output "$@"
}

# The same in a cgroup namespace below the root, as inside a container with a hierarchy of its own.
nested() {
    mkdir -p /sys/fs/cgroup/outer
    within="sh /nested"
    "$@"
    within=
}
cat > /nested <<'END'
echo $$ > /sys/fs/cgroup/outer/cgroup.procs
exec unshare --cgroup --mount sh -c '
    umount /sys/fs/cgroup
    mount -t cgroup2 none /sys/fs/cgroup
    exec "$@"' sh "$@"
END

. /plan
echo "end"
sync
reboot -f
