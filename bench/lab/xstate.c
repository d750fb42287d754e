/* Lets User-Mode Linux run on processors whose register state is larger than it knows (AMX, for one).
 *
 * User-Mode Linux keeps the extended registers of its processes in a buffer of fixed size. The kernel hands out as much
 * as fits, but takes back the whole state only, so that every process dies at its first system call. Preloaded, this
 * gives back what the buffer holds, and for the rest what the process has: components that no process in there may use.
 *
 * Owns the one request below; everything else goes to the C library. For one thread.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <elf.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

/* Larger than the state of any processor so far. */
#define WHOLE_BYTES 65536

static long set_registers(pid_t pid, const struct iovec *known)
{
	/* Not on the stack, which is the small one of the kernel in there; that kernel has one processor. */
	static char whole[WHOLE_BYTES];
	struct iovec all = { .iov_base = whole, .iov_len = sizeof whole };

	if (syscall(SYS_ptrace, PTRACE_GETREGSET, pid, NT_X86_XSTATE, &all) < 0)
		return -1;
	if (known->iov_len < all.iov_len)
		memcpy(whole, known->iov_base, known->iov_len);
	else
		all = *known;
	return syscall(SYS_ptrace, PTRACE_SETREGSET, pid, NT_X86_XSTATE, &all);
}

long ptrace(enum __ptrace_request request, ...)
{
	static long (*next)(enum __ptrace_request, ...);
	va_list words;
	pid_t pid;
	void *address, *data;

	va_start(words, request);
	pid = va_arg(words, pid_t);
	address = va_arg(words, void *);
	data = va_arg(words, void *);
	va_end(words);
	if (request == PTRACE_SETREGSET && (long)address == NT_X86_XSTATE)
		return set_registers(pid, data);
	if (!next)
		next = (long (*)(enum __ptrace_request, ...))dlsym(RTLD_NEXT, "ptrace");
	return next(request, pid, address, data);
}
