/*
 * A program without a C library, which asks the kernel itself: `little ADDRESS-IN-HEX PORT`.
 * Connects a TCP socket, and sends one datagram. As a 32-bit program it does so by socketcall(),
 * the oldest way of i386.
 */

struct address {
	unsigned short family, port;
	unsigned int ip;
	unsigned char zero[8];
};

enum { INET = 2, STREAM = 1, DATAGRAM = 2 };

#if defined(__i386__)
static long call(long number, long first, long second, long third)
{
	long result;

	__asm__ volatile("int $0x80"
			 : "=a"(result)
			 : "0"(number), "b"(first), "c"(second), "d"(third)
			 : "memory");
	return result;
}

static long exchange(long which, const long *arguments)
{
	return call(102, which, (long)arguments, 0);
}

static long new_socket(long type)
{
	const long arguments[] = { INET, type, 0 };

	return exchange(1, arguments);
}

static long connect_to(long fd, const struct address *to)
{
	const long arguments[] = { fd, (long)to, sizeof(*to) };

	return exchange(3, arguments);
}

static long send_to(long fd, const char *text, long length, const struct address *to)
{
	const long arguments[] = { fd, (long)text, length, 0, (long)to, sizeof(*to) };

	return exchange(11, arguments);
}

static void leave(long code)
{
	call(1, code, 0, 0);
}

__asm__(".globl _start\n_start:\n\tmov %esp, %eax\n\tpush %eax\n\tcall begin\n");
#elif defined(__x86_64__)
static long call(long number, long first, long second, long third, long fourth, long fifth, long sixth)
{
	register long r10 __asm__("r10") = fourth;
	register long r8 __asm__("r8") = fifth;
	register long r9 __asm__("r9") = sixth;
	long result;

	__asm__ volatile("syscall"
			 : "=a"(result)
			 : "0"(number), "D"(first), "S"(second), "d"(third), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return result;
}

static long new_socket(long type)
{
	return call(41, INET, type, 0, 0, 0, 0);
}

static long connect_to(long fd, const struct address *to)
{
	return call(42, fd, (long)to, sizeof(*to), 0, 0, 0);
}

static long send_to(long fd, const char *text, long length, const struct address *to)
{
	return call(44, fd, (long)text, length, 0, (long)to, sizeof(*to));
}

static void leave(long code)
{
	call(60, code, 0, 0, 0, 0, 0);
}

__asm__(".globl _start\n_start:\n\tmov %rsp, %rdi\n\tcall begin\n");
#endif

static unsigned int number(const char *text, unsigned int base)
{
	unsigned int value = 0;

	for (; *text; text++)
		value = value * base + (*text >= 'a' ? *text - 'a' + 10 : *text - '0');
	return value;
}

/* `stack` is what a program begins with: argc, then argv. */
__attribute__((used)) void begin(const long *stack)
{
	unsigned int port = number((const char *)stack[3], 10);
	struct address to = { 0 };
	long failed;

	to.family = INET;
	to.port = (unsigned short)(port >> 8 | port << 8);
	to.ip = __builtin_bswap32(number((const char *)stack[2], 16));
	failed = connect_to(new_socket(STREAM), &to) != 0;
	failed |= send_to(new_socket(DATAGRAM), "hello", 5, &to) != 5;
	leave(failed);
}
