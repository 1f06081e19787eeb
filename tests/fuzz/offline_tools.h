// What check, dump, restore and repair promise of any image.
#pragma once

#include "fuzz_input.h"
#include "support/memory_device.h"

namespace clonedev::fuzz {

// Takes one byte of `input`: what lost ranges become.
void judge_offline_tools(const MemoryDevice& image, FuzzInput& input);

}  // namespace clonedev::fuzz
