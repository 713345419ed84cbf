/* Classifies the embedded sample images; returns how many gave other logits than the reference. */
#include "spikenas.h"

#include "samples.h"

#if defined(SPIKENAS_HOST)
#include <stdio.h>

#include "class_names.h"
#endif

int main(void) {
    int wrong = 0;
#if SAMPLE_COUNT > 0
    for (int i = 0; i < SAMPLE_COUNT; ++i) {
        int32_t logits[SPIKENAS_CLASSES];
        const int winner = spikenas_classify(sample_images[i], logits);
        int same = 1;
        for (int j = 0; j < SPIKENAS_CLASSES; ++j) {
            same = same && logits[j] == sample_logits[i][j];
        }
        wrong += !same;
#if defined(SPIKENAS_HOST)
        printf("sample %d: class %d, %s; logits %s\n", i, winner, spikenas_class_names[winner],
               same ? "as expected" : "DIFFER");
#else
        (void)winner;
#endif
    }
#endif
#if defined(SPIKENAS_HOST)
    printf("%d of %d samples give other logits than the reference\n", wrong, SAMPLE_COUNT);
#endif
    return wrong;
}
