// What processor.hpp reads from the processor, beside what the compiler's own library reads.
#include <cstdio>

#include "processor.hpp"

int main() {
    using namespace throughtime;
    __builtin_cpu_init();
    const int level = __builtin_cpu_supports("x86-64-v4")   ? 4
                      : __builtin_cpu_supports("x86-64-v3") ? 3
                      : __builtin_cpu_supports("x86-64-v2") ? 2
                                                            : 1;
    const bool products = level == 4 && __builtin_cpu_supports("avx512bf16");
    std::printf("x86-64-v%d%s\n", x86_level(), has_avx512_bf16() ? " avx512_bf16" : "");
    return x86_level() == level && has_avx512_bf16() == products ? 0 : 1;
}
