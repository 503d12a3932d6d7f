# The first process of `--init`: runs the program as its child, hands signals on to it, waits for whatever
# ends, and ends as the program did. `code.rs` holds what the assembler makes of this;
# `conformance/tests/vdso.rs` checks that it is the same.
#
# The stack is that of any program. The arguments are its own name, `--`, and those of the program; where
# that was found stands in AT_EXECFN. What is kept: r12 the program's arguments, r13 the environment, r14
# where it was found, r15 its process, ebx its status, or -1.
	.intel_syntax noprefix
	.set SYS_write, 1
	.set SYS_rt_sigprocmask, 14
	.set SYS_ioctl, 16
	.set SYS_fork, 57
	.set SYS_execve, 59
	.set SYS_wait4, 61
	.set SYS_kill, 62
	.set SYS_setpgid, 109
	.set SYS_rt_sigtimedwait, 128
	.set SYS_exit_group, 231
	.set TIOCSPGRP, 0x5410
	.set AT_EXECFN, 31
	.set SIGCHLD, 17
	.set ENOENT, 2

	.text
start:
	mov rax, [rsp]			# argc
	lea r12, [rsp + 24]
	lea r13, [rsp + rax * 8 + 16]
	mov rsi, r13
1:	lodsq				# the auxiliary vector lies behind the environment
	test rax, rax
	jnz 1b
	xor r14d, r14d
2:	lodsq
	mov rdx, rax
	lodsq
	cmp rdx, AT_EXECFN
	cmove r14, rax
	test rdx, rdx
	jnz 2b
	mov ebx, -1
	sub rsp, 160			# a mask, the mask before, a status, siginfo
	# All but SIGILL, SIGTRAP, SIGABRT, SIGBUS, SIGFPE, SIGSEGV, SIGSYS.
	mov rax, ~0x400004f8
	mov [rsp], rax
	xor edi, edi			# SIG_BLOCK
	mov rsi, rsp
	lea rdx, [rsp + 8]
	mov r10d, 8
	mov eax, SYS_rt_sigprocmask
	syscall
	mov eax, SYS_fork
	syscall
	test rax, rax
	jz child
	mov edi, 125
	js exit
	mov r15, rax
next:
	mov rdi, rsp
	lea rsi, [rsp + 32]
	xor edx, edx
	mov r10d, 8
	mov eax, SYS_rt_sigtimedwait
	syscall
	test rax, rax
	js next
	cmp eax, SIGCHLD
	je reap
	mov rdi, r15
	mov esi, eax
	mov eax, SYS_kill
	syscall
	jmp next
reap:
	mov edi, -1
	movsxd rdi, edi
	lea rsi, [rsp + 16]
	mov edx, 1			# WNOHANG
	xor r10d, r10d
	mov eax, SYS_wait4
	syscall
	test rax, rax
	jle 3f
	cmp rax, r15
	jne reap
	mov ebx, [rsp + 16]
	jmp reap
3:	cmp ebx, -1
	je next
	mov edi, ebx
	and edi, 0x7f
	jnz 4f
	movzx edi, bh
	jmp exit
4:	add edi, 128
exit:
	mov eax, SYS_exit_group
	syscall
	ud2

child:
	xor edi, edi
	xor esi, esi
	mov eax, SYS_setpgid
	syscall
	# Its group is that of the terminal, if there is one.
	mov eax, 39			# getpid
	syscall
	mov [rsp + 16], eax
	xor edi, edi
	mov esi, TIOCSPGRP
	lea rdx, [rsp + 16]
	mov eax, SYS_ioctl
	syscall
	mov edi, 2			# SIG_SETMASK
	lea rsi, [rsp + 8]
	xor edx, edx
	mov r10d, 8
	mov eax, SYS_rt_sigprocmask
	syscall
	mov rdi, r14
	mov rsi, r12
	mov rdx, r13
	mov eax, SYS_execve
	syscall
	mov ebx, 127
	mov edx, 126
	cmp eax, -ENOENT
	cmovne ebx, edx
	mov edi, 2
	lea rsi, message[rip]
	mov edx, .Lend - message
	mov eax, SYS_write
	syscall
	mov edi, ebx
	jmp exit
message:
	.ascii "docker-init: the program cannot be executed\n"
.Lend:
