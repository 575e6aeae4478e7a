#include "dispatch.hpp"

#include <atomic>
#include <cstdlib>
#include <stdexcept>

#include "bfloat16.hpp"

namespace throughtime {

#if defined(__x86_64__)
extern const Isa isa_v2, isa_v3, isa_v4;
extern const Bfloat16 avx512_bf16;
#else
extern const Isa isa_base;
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
    if (&isa() == &isa_v4 && __builtin_cpu_supports("avx512bf16")) return &avx512_bf16;
#endif
    return nullptr;
}

void choose_isa(const std::string &name) { chosen.store(find(name)); }

}  // namespace throughtime
