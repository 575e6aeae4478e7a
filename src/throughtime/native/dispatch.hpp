// Which ISA answers: the best that the processor has, or the one that THROUGHTIME_ISA names.
#pragma once

#include <string>
#include <vector>

#include "engine.hpp"

namespace throughtime {

// The compiled ISAs that this processor can run, best first.
std::vector<const Isa *> available_isas();

// The one in use. Throws std::invalid_argument where THROUGHTIME_ISA names one that cannot run here.
const Isa &isa();

// Chooses another one by name, with the same refusal.
void choose_isa(const std::string &name);

}  // namespace throughtime
