/* What tensors hold: float, or bfloat16 with -DVALUE_BF16; arithmetic is float in both. Comes before the other files. */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#ifdef VALUE_BF16
typedef uint16_t value;
static inline float load(value x) {
    union { uint32_t bits; float number; } u = {(uint32_t)x << 16};
    return u.number;
}
static inline value store(float x) { /* to nearest, ties to even */
    union { float number; uint32_t bits; } u = {x};
    return (value)((u.bits + 0x7fffu + ((u.bits >> 16) & 1u)) >> 16);
}
#else
typedef float value;
static inline float load(value x) { return x; }
static inline value store(float x) { return x; }
#endif
