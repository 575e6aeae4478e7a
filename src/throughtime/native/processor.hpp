#pragma once
// What this processor can do, and its system allows. The compilers' __builtin_cpu_supports would say most of
// it, but it needs a part of their own libraries that clang-cl does not link and others leave empty.

#include <cstddef>
#include <initializer_list>

#if defined(__x86_64__)
#include <cpuid.h>
#ifdef __linux__
#include <sys/syscall.h>
#include <unistd.h>
#endif
#endif
#if defined(__aarch64__) && defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#elif defined(__aarch64__) && defined(__APPLE__)
#include <sys/sysctl.h>
#endif

namespace throughtime {

#if defined(__x86_64__)

// A leaf of the cpuid instruction; zeros where the processor has none of that number.
struct CpuidLeaf {
    unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;

    explicit CpuidLeaf(unsigned leaf, unsigned part = 0) {
        if (!__get_cpuid_count(leaf, part, &eax, &ebx, &ecx, &edx)) eax = ebx = ecx = edx = 0;
    }
};

// Whether all of these bits are set.
inline bool has_bits(unsigned word, std::initializer_list<int> bits) {
    for (int bit : bits)
        if (!(word >> bit & 1)) return false;
    return true;
}

// Whether the system saves these registers when it changes threads: bits 1, 2 are SSE's and AVX's, 5 to 7 AVX-512's.
inline bool saves_registers(std::initializer_list<int> bits) {
    if (!has_bits(CpuidLeaf(1).ecx, {27})) return false;  // OSXSAVE, without which xgetbv is no instruction
    unsigned low, high;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return has_bits(low, bits);
}

// The largest n of x86-64-vn that runs here, as the psABI defines these; 1 where there is no more.
inline int x86_level() {
    const CpuidLeaf first(1), seventh(7), extended(0x80000001);
    // SSE3, SSSE3, CMPXCHG16B, SSE4.1, SSE4.2, POPCNT; LAHF
    if (!has_bits(first.ecx, {0, 9, 13, 19, 20, 23}) || !has_bits(extended.ecx, {0})) return 1;
    // FMA, MOVBE, AVX, F16C; BMI1, AVX2, BMI2; LZCNT
    const bool third = has_bits(first.ecx, {12, 22, 28, 29}) && has_bits(seventh.ebx, {3, 5, 8}) &&
                       has_bits(extended.ecx, {5}) && saves_registers({1, 2});
    if (!third) return 2;
    // AVX-512: F, DQ, CD, BW, VL
    return has_bits(seventh.ebx, {16, 17, 28, 30, 31}) && saves_registers({5, 6, 7}) ? 4 : 3;
}

// Whether there are products in bfloat16 of AVX-512.
inline bool has_avx512_bf16() { return x86_level() == 4 && has_bits(CpuidLeaf(7, 1).eax, {5}); }

// Whether there are AMX's tiles and bfloat16, and Linux lets this process use them: it has to be asked.
inline bool has_amx() {
#ifdef __linux__
    if (!has_bits(CpuidLeaf(7).edx, {22, 24})) return false;
    constexpr long REQUEST_PERMISSION = 0x1023, TILE_DATA = 18;
    return syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0;
#else
    return false;
#endif
}

#elif defined(__aarch64__)

// Whether there are products in bfloat16, as the system says.
inline bool has_neon_bf16() {
#if defined(__linux__) && defined(HWCAP2_BF16)
    return getauxval(AT_HWCAP2) & HWCAP2_BF16;
#elif defined(__APPLE__)
    int has = 0;
    std::size_t size = sizeof has;
    return sysctlbyname("hw.optional.arm.FEAT_BF16", &has, &size, nullptr, 0) == 0 && has;
#else
    return false;
#endif
}

#endif

}  // namespace throughtime
