/*
 * What root in a container can try against the tracer: `intruder WHAT [ARGUMENT...]`. Each attempt
 * prints a line: what it was, and what the kernel or the tracer said.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <mntent.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

/* A newline that would forge a record, a colour, a quote, text from right to left, no UTF-8. */
static const char HOSTILE[] = "a\n{\"type\":\"flow\"}\x1b[31m\"'\\\r\b\xe2\x80\xae\xff\xfe";

static void told(const char *what, long result)
{
	printf("%s: %s\n", what, result < 0 ? strerrorname_np(errno) : "done");
	fflush(stdout);
}

static long bpf(int command, union bpf_attr *attr)
{
	return syscall(SYS_bpf, command, attr, sizeof(*attr));
}

static void tables(void)
{
	static const struct {
		const char *what;
		int command;
	} ids[] = {
		{ "next program", BPF_PROG_GET_NEXT_ID }, { "next map", BPF_MAP_GET_NEXT_ID },
		{ "next link", BPF_LINK_GET_NEXT_ID },    { "program", BPF_PROG_GET_FD_BY_ID },
		{ "map", BPF_MAP_GET_FD_BY_ID },          { "link", BPF_LINK_GET_FD_BY_ID },
	};

	for (size_t i = 0; i < sizeof(ids) / sizeof(*ids); i++) {
		long best = -1;
		int why = 0;

		for (unsigned id = 0; id < 4096 && best < 0; id++) {
			union bpf_attr attr = { .start_id = id };

			best = bpf(ids[i].command, &attr);
			why = errno;
		}
		errno = why;
		told(ids[i].what, best);
	}
	union bpf_attr pinned = { .pathname = (unsigned long)"/sys/fs/bpf/egress-tracer/v1/maps/FLOWS" };
	told("pinned", bpf(BPF_OBJ_GET, &pinned));
	union bpf_attr detach = { .target_fd = open("/sys/fs/cgroup", O_RDONLY | O_DIRECTORY),
				  .attach_type = BPF_CGROUP_INET4_CONNECT };
	told("detach", bpf(BPF_PROG_DETACH, &detach));
}

/* In every hierarchy that it has been given. */
static void cgroups(void)
{
	FILE *table = setmntent("/proc/self/mounts", "r");
	struct mntent *each;
	long made = -1, left = -1;
	int why = ENOENT;

	while (table && (each = getmntent(table))) {
		char path[512];

		if (strncmp(each->mnt_type, "cgroup", 6))
			continue;
		snprintf(path, sizeof(path), "%s/docker-aaaa", each->mnt_dir);
		if (mkdir(path, 0700) == 0)
			made = 0;
		why = errno;
		snprintf(path, sizeof(path), "%s/cgroup.procs", each->mnt_dir);
		if (open(path, O_WRONLY) >= 0)
			left = 0;
	}
	errno = why;
	told("make cgroup", made);
	told("leave cgroup", left);
}

static void mounts(void)
{
	mkdir("/mnt", 0700);
	told("mount bpffs", mount("bpf", "/mnt", "bpf", 0, NULL));
	told("mount cgroup2", mount("none", "/mnt", "cgroup2", 0, NULL));
	told("mount proc", mount("proc", "/mnt", "proc", 0, NULL));
	told("remount cgroup", mount(NULL, "/sys/fs/cgroup", NULL, MS_REMOUNT | MS_BIND, NULL));
	told("umount cgroup", umount2("/sys/fs/cgroup", MNT_DETACH));
	told("umount socket", umount2("/run/egress-tracer", MNT_DETACH));
	cgroups();
}

static void send_one(unsigned address, unsigned short port)
{
	int fd = socket(AF_INET, SOCK_DGRAM, 0);
	struct sockaddr_in to = { .sin_family = AF_INET,
				  .sin_port = htons(port),
				  .sin_addr.s_addr = htonl(address) };

	sendto(fd, "x", 1, 0, (struct sockaddr *)&to, sizeof(to));
	close(fd);
}

/* Everybody in reach, and whoever has the tracer's number outside. */
static void killings(int pid)
{
	told("kill the tracer", kill(pid, SIGKILL));
	for (int each = 2; each < 32768; each++)
		if (each != getpid())
			kill(each, SIGKILL);
	told("kill all", 0);
}

/* 10.99.0.FLAG:99 from namespaces of its own. */
static void namespaces(void)
{
	static const int flags[] = { CLONE_NEWNET, CLONE_NEWUSER | CLONE_NEWNET, CLONE_NEWUSER,
				     CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWPID };

	for (unsigned i = 0; i < sizeof(flags) / sizeof(*flags); i++) {
		if (fork() == 0) {
			char what[32];

			snprintf(what, sizeof(what), "namespace %u", i);
			told(what, unshare(flags[i]));
			send_one(0x0a630000 | i, 99);
			_exit(0);
		}
		wait(NULL);
	}
}

/* So many programs, each of which goes to a place of its own: 10.77.0.0 and on, port 77. */
static void storm(const char *self, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		if (fork() == 0) {
			char number[16];

			snprintf(number, sizeof(number), "%u", i);
			execl(self, HOSTILE, "one", number, HOSTILE, NULL);
			_exit(1);
		}
		/* Four at a time. */
		if (i % 4 == 3)
			while (wait(NULL) > 0)
				;
	}
	while (wait(NULL) > 0)
		;
	told("storm", 0);
}

/* Names of every kind: of the thread, 128 KiB of arguments, in DNS, HTTP and TLS. */
static void names(const char *self, const char *server)
{
	static char longest[32 * 4096 - 1];
	unsigned address = ntohl(inet_addr(server));
	unsigned char question[64] = { 0, 7, 1, 0, 0, 1 };
	size_t length = strlen(HOSTILE), at = 12;
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(address) };
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	prctl(PR_SET_NAME, HOSTILE);
	send_one(0x0a580001, 88);
	memset(longest, '\x1b', sizeof(longest) - 1);
	if (fork() == 0)
		execl(self, longest, "one", "2147483647", longest, NULL);
	wait(NULL);

	question[at++] = (unsigned char)length;
	memcpy(question + at, HOSTILE, length);
	at += length + 1;
	question[at + 1] = 1;
	question[at + 3] = 1;
	to.sin_port = htons(53);
	told("question", sendto(fd, question, at + 4, 0, (struct sockaddr *)&to, sizeof(to)));

	for (int i = 0; i < 2; i++) {
		char text[512];
		int tcp = socket(AF_INET, SOCK_STREAM, 0);
		int size = snprintf(text, sizeof(text), "GET http://%s/ HTTP/1.1\r\nHost: %s\r\n\r\n",
				    HOSTILE, HOSTILE);

		if (i == 1) {
			/* A ClientHello with nothing but that name. */
			static const unsigned char begin[] = {
				22, 3, 1, 0, 0, 1, 0, 0, 0, 3, 3
			};
			unsigned char *body = (unsigned char *)text;
			size_t end = sizeof(begin) + 32;

			memset(body, 0, sizeof(text));
			memcpy(body, begin, sizeof(begin));
			body[end++] = 0;                      /* session */
			body[end++] = 0, body[end++] = 2;     /* suites */
			body[end++] = 0x13, body[end++] = 1;
			body[end++] = 1, body[end++] = 0;     /* compression */
			body[end++] = 0, body[end++] = (unsigned char)(length + 9);
			body[end++] = 0, body[end++] = 0;     /* server_name */
			body[end++] = 0, body[end++] = (unsigned char)(length + 5);
			body[end++] = 0, body[end++] = (unsigned char)(length + 3);
			body[end++] = 0;
			body[end++] = 0, body[end++] = (unsigned char)length;
			memcpy(body + end, HOSTILE, length);
			end += length;
			body[4] = (unsigned char)(end - 5);
			body[8] = (unsigned char)(end - 9);
			size = (int)end;
		}
		to.sin_port = htons(80);
		told("connect", connect(tcp, (struct sockaddr *)&to, sizeof(to)));
		told("say", send(tcp, text, (size_t)size, MSG_NOSIGNAL));
		close(tcp);
	}
}

static int reach(const char *path)
{
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_SEQPACKET, 0);

	strncpy(to.sun_path, path, sizeof(to.sun_path) - 1);
	if (connect(fd, (struct sockaddr *)&to, sizeof(to)) < 0) {
		close(fd);
		return -1;
	}
	return fd;
}

/* Says it and prints the answer. */
static void ask(int fd, const char *what, const char *message, size_t length)
{
	char answer[4096];
	ssize_t got;

	if (send(fd, message, length, MSG_NOSIGNAL) < 0) {
		told(what, -1);
		return;
	}
	got = recv(fd, answer, sizeof(answer) - 1, 0);
	answer[got < 0 ? 0 : got] = 0;
	printf("%s: %s\n", what, answer);
	fflush(stdout);
}

static void say(int fd, const char *what, const char *message)
{
	ask(fd, what, message, strlen(message));
}

/* In another's name: of a process outside, of threads that are none of its own. */
static void speak_for_others(int fd, int pid)
{
	char message[256], space[CMSG_SPACE(sizeof(struct ucred))] = { 0 };
	struct iovec text = { .iov_base = message };
	struct msghdr whole = { .msg_iov = &text, .msg_iovlen = 1, .msg_control = space,
				.msg_controllen = sizeof(space) };
	struct cmsghdr *header = CMSG_FIRSTHDR(&whole);
	struct ucred other = { .pid = pid };

	snprintf(message, sizeof(message),
		 "{\"op\":\"begin\",\"tool\":\"t\",\"call\":\"c\",\"tid\":%d}", pid);
	say(fd, "mark another", message);
	snprintf(message, sizeof(message), "{\"op\":\"use\",\"call\":null,\"tid\":%d}", pid);
	say(fd, "use another", message);
	header->cmsg_level = SOL_SOCKET;
	header->cmsg_type = SCM_CREDENTIALS;
	header->cmsg_len = CMSG_LEN(sizeof(other));
	memcpy(CMSG_DATA(header), &other, sizeof(other));
	text.iov_len = strlen(message);
	told("be another", sendmsg(fd, &whole, MSG_NOSIGNAL));
}

static void markers(const char *path, int pid)
{
	static char noise[8192];
	int fd = reach(path), crowd = 0;

	told("reach", fd);
	speak_for_others(fd, pid);
	srand(1);
	for (int i = 0; i < 5000; i++) {
		size_t length = (size_t)(rand() % 5000);

		for (size_t at = 0; at < length; at += 64)
			noise[at] = (char)rand();
		send(fd, noise, length, MSG_NOSIGNAL | MSG_DONTWAIT);
	}
	close(fd);
	/* Nobody listens to its answers. */
	for (int i = 0; i < 900; i++)
		crowd += reach(path) >= 0;
	printf("crowd: %d\n", crowd);
	fflush(stdout);
}

int main(int count, char **words)
{
	static const char self[] = "/intruder";
	const char *what = count > 1 ? words[1] : "";
	const char *word = count > 2 ? words[2] : "0";

	if (!strcmp(what, "one")) {
		unsigned number = (unsigned)atoi(word);

		prctl(PR_SET_NAME, HOSTILE);
		send_one(0x0a4d0000 + (number & 0xfffff), 77);
	} else if (!strcmp(what, "tables"))
		tables();
	else if (!strcmp(what, "mounts"))
		mounts();
	else if (!strcmp(what, "kill"))
		killings(atoi(word));
	else if (!strcmp(what, "namespaces"))
		namespaces();
	else if (!strcmp(what, "storm"))
		storm(self, (unsigned)atoi(word));
	else if (!strcmp(what, "names"))
		names(self, word);
	else if (!strcmp(what, "markers"))
		markers(word, count > 3 ? atoi(words[3]) : 1);
	else
		pause();
	return 0;
}
