#include "dispatch.hpp"

#include <atomic>
#include <cstdlib>
#include <stdexcept>

#include "bfloat16.hpp"

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
extern const Isa isa_v2, isa_v3, isa_v4;
extern const Bfloat16 avx512_bf16, amx_bf16;
#else
extern const Isa isa_base;
#endif
#if defined(__aarch64__)
extern const Bfloat16 neon_bf16;
#endif

namespace {

std::atomic<const Isa *> chosen{nullptr};

const Isa *find(const std::string &name) {
    std::string names;
    for (const Isa *one : available_isas()) {
        if (name == one->name) return one;
        names += (names.empty() ? "" : ", ") + std::string(one->name);
    }
    throw std::invalid_argument("THROUGHTIME_ISA: expected one of " + names + ", got '" + name + "'");
}

#if defined(__x86_64__)
// Whether the processor has AMX's tiles and bfloat16, and Linux lets this process use them: it has to be asked.
[[maybe_unused]] bool has_amx() {
#if defined(__linux__) && defined(TT_AMX)
    unsigned a, b, c, d;
    constexpr unsigned BF16 = 1u << 22, TILE = 1u << 24;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || (d & (BF16 | TILE)) != (BF16 | TILE)) return false;
    constexpr long REQUEST_PERMISSION = 0x1023, TILE_DATA = 18;
    return syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0;
#else
    return false;
#endif
}

// AMX is taken where THROUGHTIME_BFLOAT16=amx_bf16 asks for it: its code has run under emulation only.
const Bfloat16 *bfloat16_of_v4() {
    const char *name = std::getenv("THROUGHTIME_BFLOAT16");
    if (!name || !*name || std::string(name) == avx512_bf16.name) return &avx512_bf16;
#ifdef TT_AMX
    if (std::string(name) == amx_bf16.name && has_amx()) return &amx_bf16;
#endif
    throw std::invalid_argument("THROUGHTIME_BFLOAT16: expected avx512_bf16, or amx_bf16 on a processor with AMX, got '" +
                                std::string(name) + "'");
}
#endif

#if defined(__aarch64__)
// Whether the processor has products in bfloat16, as its system says.
bool has_bfloat16() {
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

}  // namespace

std::vector<const Isa *> available_isas() {
#if defined(__x86_64__)
    std::vector<const Isa *> found;
    if (__builtin_cpu_supports("x86-64-v4")) found.push_back(&isa_v4);
    if (__builtin_cpu_supports("x86-64-v3")) found.push_back(&isa_v3);
    if (__builtin_cpu_supports("x86-64-v2")) found.push_back(&isa_v2);
    return found;
#else
    return {&isa_base};
#endif
}

const Isa &isa() {
    const Isa *found = chosen.load();
    if (!found) {
        const char *name = std::getenv("THROUGHTIME_ISA");
        if (available_isas().empty()) throw std::invalid_argument("this processor is older than x86-64-v2");
        found = name && *name ? find(name) : available_isas().front();
        chosen.store(found);
    }
    return *found;
}

const Bfloat16 *bfloat16() {
#if defined(__x86_64__)
    if (&isa() != &isa_v4 || !__builtin_cpu_supports("avx512bf16")) return nullptr;
    static const Bfloat16 *const found = bfloat16_of_v4();
    return found;
#elif defined(__aarch64__)
    static const bool has = has_bfloat16();
    return has ? &neon_bf16 : nullptr;
#else
    return nullptr;
#endif
}

void choose_isa(const std::string &name) { chosen.store(find(name)); }

}  // namespace throughtime
