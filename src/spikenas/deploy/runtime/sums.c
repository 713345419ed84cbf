/* One pixel's sums: filling, adding single values, and what a shifted or voted group contributes. */
#include "lanes.h"
#include "spikenas_runtime.h"

#if !SPK_COMPACT
/* Copies narrow sums to where they can be changed. */
void spk_materialise(spk_sums *sums) {
    if (sums->from != sums->to) {
        const spk_u32 *from = sums->from;
        spk_u32 *to = sums->to;
        spk_u32 *end = to + (sums->blocked >> 1);
        do {
            to[0] = from[0];
            to[1] = from[1];
            to[2] = from[2];
            to[3] = from[3];
            to += 4;
            from += 4;
        } while (to != end);
        sums->from = sums->to;
    }
}

void spk_add(spk_sums *sums, unsigned channel, int32_t value) {
    if (sums->wide) {
        ((spk_i32 *)sums->to)[channel] += value;
    } else {
        spk_i16 *sum = (spk_i16 *)sums->to + channel;
        *sum = (int16_t)(*sum + value);
    }
}

#endif

#if SPK_HAS_PARTIAL
/* Adds ((partial + half) >> shift) + bias, each run of `vote` channels to one sum. */
void spk_finish_group(const spk_group *group, const int32_t *partial, spk_sums *sums) {
    const int32_t half = (int32_t)((1u << group->shift) >> 1);
    unsigned inner = 0;
    for (unsigned channel = 0; inner < group->channels; ++channel) {
        int32_t total = 0;
        for (unsigned vote = 0; vote < group->vote; ++vote, ++inner) {
            total += (partial[inner] + half) >> group->shift;
            if (group->bias != 0) {
                total += group->bias[inner];
            }
        }
        spk_add(sums, channel, total);
    }
}
#endif
