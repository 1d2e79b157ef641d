#ifndef SQZ_RANGE_CODER_H
#define SQZ_RANGE_CODER_H

#include "python.h"

extern PyType_Spec sqz_encoder_spec, sqz_decoder_spec;

#endif
