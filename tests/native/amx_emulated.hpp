// The tiles of AMX in plain C++, for tests on processors without them: 16 rows of 64 bytes each.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>

namespace amx_emulated {

inline thread_local std::uint32_t tiles[8][16][16];
inline thread_local bool configured = false;

inline float of_half(std::uint32_t pair, int half) {
    return std::bit_cast<float>(half ? pair & 0xffff0000u : pair << 16);
}

inline void load(int tile, const void *from, int stride) {
    for (int r = 0; r < 16; ++r) std::memcpy(tiles[tile][r], static_cast<const char *>(from) + r * stride, 64);
}

inline void store(int tile, void *to, int stride) {
    for (int r = 0; r < 16; ++r) std::memcpy(static_cast<char *>(to) + r * stride, tiles[tile][r], 64);
}

// Both halves of all pairs are summed by themselves, and these two sums are added to what is there.
inline void multiply(int to, int a, int b) {
    for (int m = 0; m < 16; ++m)
        for (int n = 0; n < 16; ++n) {
            float sums[2] = {std::bit_cast<float>(tiles[to][m][n]), 0};
            for (int k = 0; k < 16; ++k)
                for (int half = 0; half < 2; ++half)
                    sums[half] = __builtin_fmaf(of_half(tiles[a][m][k], half), of_half(tiles[b][k][n], half), sums[half]);
            tiles[to][m][n] = std::bit_cast<std::uint32_t>(sums[0] + sums[1]);
        }
}

}  // namespace amx_emulated

#undef _tile_loadconfig
#undef _tile_release
#undef _tile_zero
#undef _tile_loadd
#undef _tile_stored
#undef _tile_dpbf16ps
#define _tile_loadconfig(shapes) (static_cast<void>(shapes), amx_emulated::configured = true)
#define _tile_release() (amx_emulated::configured = false)
#define _tile_zero(tile) std::memset(amx_emulated::tiles[tile], 0, sizeof amx_emulated::tiles[tile])
#define _tile_loadd(tile, from, stride) amx_emulated::load(tile, from, stride)
#define _tile_stored(tile, to, stride) amx_emulated::store(tile, to, stride)
#define _tile_dpbf16ps(to, a, b) amx_emulated::multiply(to, a, b)
