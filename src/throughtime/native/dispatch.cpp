#include "dispatch.hpp"

#include <atomic>
#include <cstdlib>
#include <stdexcept>

#include "bfloat16.hpp"
#include "processor.hpp"

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

}  // namespace

std::vector<const Isa *> available_isas() {
#if defined(__x86_64__)
    static const int level = x86_level();
    std::vector<const Isa *> found;
    if (level >= 4) found.push_back(&isa_v4);
    if (level >= 3) found.push_back(&isa_v3);
    if (level >= 2) found.push_back(&isa_v2);
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
    static const bool has = has_avx512_bf16();
    if (&isa() != &isa_v4 || !has) return nullptr;
    static const Bfloat16 *const found = bfloat16_of_v4();
    return found;
#elif defined(__aarch64__)
    static const bool has = has_neon_bf16();
    return has ? &neon_bf16 : nullptr;
#else
    return nullptr;
#endif
}

void choose_isa(const std::string &name) { chosen.store(find(name)); }

}  // namespace throughtime
