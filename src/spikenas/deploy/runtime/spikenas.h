/* The interface of a network that spikenas wrote. */
#ifndef SPIKENAS_H
#define SPIKENAS_H

#include <stdint.h>

#include "network.h"

/* Classifies one image and returns the index of the largest logit.
 *
 * image: SPIKENAS_INPUT_BYTES bytes, 0 .. 255, [channel][row][column]; with streamed input one frame after the other.
 * logits: SPIKENAS_CLASSES integers, to be multiplied with SPIKENAS_OUTPUT_SCALE for real logits; 0 if not wanted.
 * Uses one static arena: not reentrant.
 */
int spikenas_classify(const uint8_t *image, int32_t *logits);

#if SPK_STREAMED
/* The same frame by frame, for input that comes in over time: spikenas_frame for each t of 0 .. SPIKENAS_TIMESTEPS - 1
 * in order, then spikenas_answer. A frame may be overwritten as soon as the call returns. */
void spikenas_frame(const uint8_t *frame, unsigned t);
int spikenas_answer(int32_t *logits);
#endif

#endif
