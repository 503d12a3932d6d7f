# The functions of the vDSO. `code.rs` holds what the assembler makes of this; `conformance/tests/vdso.rs`
# checks that it is the same.
#
# The data page lies right before the page of the vDSO, whose code begins at CODE_OFFSET in it. Its fields
# are those of `Data` in `mod.rs`. A reader takes the sequence number, computes, and starts over if the
# number has changed meanwhile or is odd (a seqlock).
	.intel_syntax noprefix
	.set CODE_OFFSET, 0x400
	.set SEQ, 0
	.set VALID, 4
	.set TSC, 8
	.set MULT, 16
	.set SHIFT, 24
	.set MONO, 32
	.set REAL, 40
	.set data, .Lstart - CODE_OFFSET - 4096

	.text
.Lstart:
# int clock_gettime(clockid_t edi, struct timespec *rsi)
clock_gettime:
	cmp edi, 7
	ja 2f
	mov eax, 0xf3			# REALTIME, MONOTONIC, MONOTONIC_RAW, the coarse ones, BOOTTIME
	bt eax, edi
	jnc 2f
	mov r10d, 1			# whether it is wall-clock time: clocks 0 and 5
	test edi, edi
	jz 1f
	cmp edi, 5
	je 1f
	xor r10d, r10d
1:	call now
	test r9d, r9d
	jz 2f
	xor edx, edx
	mov ecx, 1000000000
	div rcx
	mov [rsi], rax
	mov [rsi + 8], rdx
	xor eax, eax
	ret
2:	mov eax, 228
	syscall
	ret

	.balign 16
# int gettimeofday(struct timeval *rdi, struct timezone *rsi)
gettimeofday:
	mov r10d, 1
	call now
	test r9d, r9d
	jz 3f
	test rdi, rdi
	jz 1f
	xor edx, edx
	mov ecx, 1000000000
	div rcx
	mov [rdi], rax
	mov rax, rdx
	xor edx, edx
	mov ecx, 1000
	div rcx
	mov [rdi + 8], rax
1:	test rsi, rsi
	jz 2f
	mov qword ptr [rsi], 0
2:	xor eax, eax
	ret
3:	mov eax, 96
	syscall
	ret

	.balign 16
# time_t time(time_t *rdi)
time:
	mov r10d, 1
	call now
	test r9d, r9d
	jz 2f
	xor edx, edx
	mov ecx, 1000000000
	div rcx
	test rdi, rdi
	jz 1f
	mov [rdi], rax
1:	ret
2:	mov eax, 201
	syscall
	ret

	.balign 16
# Nanoseconds in rax: of CLOCK_REALTIME if r10d is 1, else of CLOCK_MONOTONIC. r9d is 0 if the page holds no
# time. Changes rcx, rdx, r8, r11.
now:
	lea r8, [rip + data]
1:	mov r11d, [r8 + SEQ]
	test r11d, 1
	jz 2f
	pause
	jmp 1b
2:	mov r9d, [r8 + VALID]
	test r9d, r9d
	jz 4f
	lfence
	rdtsc
	shl rdx, 32
	or rax, rdx
	sub rax, [r8 + TSC]
	jae 3f
	xor eax, eax			# this processor's counter is behind by a few ticks
3:	mul qword ptr [r8 + MULT]
	mov ecx, [r8 + SHIFT]
	shrd rax, rdx, cl
	add rax, [r8 + MONO]
	test r10d, r10d
	jz 5f
	add rax, [r8 + REAL]
5:	cmp r11d, [r8 + SEQ]
	jne 1b
4:	ret
	.globl clock_gettime, gettimeofday, time
