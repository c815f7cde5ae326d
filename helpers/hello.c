/* hello: the program of the embedded image.  Says what the container isolates, from inside.
 *
 * Free-standing (no C library), so that it is a few kilobytes with any compiler.
 */
#include <stddef.h>
#include <stdint.h>

#if defined(__x86_64__)
enum {
	SYS_READ = 0,
	SYS_WRITE = 1,
	SYS_CLOSE = 3,
	SYS_OPENAT = 257,
	SYS_READLINKAT = 267,
	SYS_UNAME = 63,
	SYS_EXIT = 231
};
static long call(long n, long a, long b, long c, long d)
{
	long result;
	register long r10 __asm__("r10") = d;
	__asm__ volatile("syscall" : "=a"(result) : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10) : "rcx", "r11", "memory");
	return result;
}
__asm__(".globl _start\n_start:\n\txor %ebp,%ebp\n\tmov %rsp,%rdi\n\tand $-16,%rsp\n\tcall start\n");
#elif defined(__aarch64__)
enum {
	SYS_READ = 63,
	SYS_WRITE = 64,
	SYS_CLOSE = 57,
	SYS_OPENAT = 56,
	SYS_READLINKAT = 78,
	SYS_UNAME = 160,
	SYS_EXIT = 94
};
static long call(long n, long a, long b, long c, long d)
{
	register long x8 __asm__("x8") = n;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = d;
	__asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3) : "memory");
	return x0;
}
__asm__(".globl _start\n_start:\n\tmov x29,#0\n\tmov x0,sp\n\tbl start\n");
#else
#error "hello.c knows x86_64 and aarch64"
#endif

#define AT_CWD (-100)

static char out[4096];
static size_t used;

static size_t length(const char *text)
{
	size_t n = 0;
	while (text[n])
		n++;
	return n;
}

static void put(const char *text, size_t n)
{
	for (size_t i = 0; i < n && used < sizeof(out); i++)
		out[used++] = text[i];
}

static void say(const char *text)
{
	put(text, length(text));
}

static void say_number(uint64_t value)
{
	char digits[20];
	size_t n = 0;
	do
		digits[n++] = (char)('0' + value % 10);
	while (value /= 10);
	while (n)
		put(&digits[--n], 1);
}

static long read_file(const char *path, char *buffer, size_t size)
{
	long total = 0, n, fd = call(SYS_OPENAT, AT_CWD, (long)path, 0, 0);
	if (fd < 0)
		return -1;
	while ((size_t)total < size - 1 &&
	       (n = call(SYS_READ, fd, (long)(buffer + total), (long)(size - 1) - total, 0)) > 0)
		total += n;
	call(SYS_CLOSE, fd, 0, 0, 0);
	buffer[total] = '\0';
	return total;
}

static const char *find(const char *text, const char *word)
{
	size_t n = length(word);
	for (; *text; text++) {
		size_t i = 0;
		while (i < n && text[i] == word[i])
			i++;
		if (i == n)
			return text + n;
	}
	return NULL;
}

static const char *next_number(const char *at, uint64_t *value)
{
	while (*at == ' ' || *at == '\t' || *at == '\n')
		at++;
	if (*at < '0' || *at > '9')
		return NULL;
	for (*value = 0; *at >= '0' && *at <= '9'; at++)
		*value = *value * 10 + (uint64_t)(*at - '0');
	return at;
}

static void show_map(const char *title, const char *path)
{
	char text[1024];
	uint64_t inside, outside, count;
	const char *at = text;
	say(title);
	if (read_file(path, text, sizeof(text)) <= 0) {
		say("unknown\n");
		return;
	}
	for (int line = 0;
	     (at = next_number(at, &inside)) && (at = next_number(at, &outside)) && (at = next_number(at, &count));
	     line++) {
		say(line ? ", " : "");
		say_number(inside);
		if (count > 1) {
			say("-");
			say_number(inside + count - 1);
		}
		say(" -> ");
		say_number(outside);
		if (count > 1) {
			say("-");
			say_number(outside + count - 1);
		}
	}
	say(" (here -> the realm)\n");
}

static void show_namespaces(void)
{
	static const char *const kinds[] = {"user", "pid", "mnt", "net", "ipc", "uts", "cgroup"};
	char path[32] = "/proc/self/ns/", target[64];
	say("  namespaces     ");
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		size_t n = length(kinds[i]);
		for (size_t j = 0; j <= n; j++)
			path[14 + j] = kinds[i][j];
		long size = call(SYS_READLINKAT, AT_CWD, (long)path, (long)target, sizeof(target));
		if (size <= 0)
			continue;
		say(i ? " " : "");
		put(target, (size_t)size);
		if (i == 3)
			say("\n                ");
	}
	say("\n");
}

static const char *const capabilities[] = {"chown",
					   "dac_override",
					   "dac_read_search",
					   "fowner",
					   "fsetid",
					   "kill",
					   "setgid",
					   "setuid",
					   "setpcap",
					   "linux_immutable",
					   "net_bind_service",
					   "net_broadcast",
					   "net_admin",
					   "net_raw",
					   "ipc_lock",
					   "ipc_owner",
					   "sys_module",
					   "sys_rawio",
					   "sys_chroot",
					   "sys_ptrace",
					   "sys_pacct",
					   "sys_admin",
					   "sys_boot",
					   "sys_nice",
					   "sys_resource",
					   "sys_time",
					   "sys_tty_config",
					   "mknod",
					   "lease",
					   "audit_write",
					   "audit_control",
					   "setfcap",
					   "mac_override",
					   "mac_admin",
					   "syslog",
					   "wake_alarm",
					   "block_suspend",
					   "audit_read",
					   "perfmon",
					   "bpf",
					   "checkpoint_restore"};

static uint64_t hexadecimal(const char *at)
{
	uint64_t value = 0;
	for (; *at == ' ' || *at == '\t'; at++)
		;
	for (;; at++) {
		if (*at >= '0' && *at <= '9')
			value = value * 16 + (uint64_t)(*at - '0');
		else if (*at >= 'a' && *at <= 'f')
			value = value * 16 + (uint64_t)(*at - 'a' + 10);
		else
			return value;
	}
}

static void show_capabilities(const char *status)
{
	const char *at = find(status, "CapEff:");
	uint64_t set = at ? hexadecimal(at) : 0;
	size_t column = 0, count = 0;
	say("  capabilities   ");
	for (size_t i = 0; i < sizeof(capabilities) / sizeof(capabilities[0]); i++) {
		if (!(set >> i & 1))
			continue;
		if (column > 56) {
			say("\n                 ");
			column = 0;
		}
		say(capabilities[i]);
		say(" ");
		column += length(capabilities[i]) + 1;
		count++;
	}
	say(count ? "\n" : "none\n");
}

static void show_root(void)
{
	static char mounts[16384];
	const char *at = mounts;
	say("  root           ");
	if (read_file("/proc/self/mountinfo", mounts, sizeof(mounts)) > 0)
		while ((at = find(at, " / / ")) != NULL) {
			const char *type = find(at, " - ");
			size_t n = 0;
			while (type && type[n] && type[n] != ' ')
				n++;
			if (type && n) {
				put(type, n);
				say(" (the storage driver's filesystem)\n");
				return;
			}
		}
	say("unknown\n");
}

static void show_status(const char *status)
{
	const char *filter = find(status, "Seccomp:\t"), *nnp = find(status, "NoNewPrivs:\t");
	say("  seccomp        ");
	say(filter && *filter == '2' ? "filter loaded\n" : "no filter\n");
	say("  no_new_privs   ");
	say(nnp && *nnp == '1' ? "yes\n" : "no\n");
}

__attribute__((used, noreturn)) void start(long *stack);

void start(long *stack)
{
	static char status[8192];
	static char names[6][65];
	(void)stack;
	say("Hello from rootless: this container runs, and nobody was root.\n\n");
	read_file("/proc/self/status", status, sizeof(status));
	show_map("  user IDs       ", "/proc/self/uid_map");
	show_map("  group IDs      ", "/proc/self/gid_map");
	show_namespaces();
	show_capabilities(status);
	show_status(status);
	show_root();
	if (call(SYS_UNAME, (long)names, 0, 0, 0) == 0) {
		say("  host name      ");
		say(names[1]);
		say("\n  kernel         ");
		say(names[2]);
	}
	say("\n\nTry next:  rootless pull debian:12 && rootless run -it debian:12 bash\n");
	for (size_t done = 0; done < used;) {
		long n = call(SYS_WRITE, 1, (long)(out + done), (long)(used - done), 0);
		if (n <= 0)
			break;
		done += (size_t)n;
	}
	call(SYS_EXIT, 0, 0, 0, 0);
	__builtin_unreachable();
}
