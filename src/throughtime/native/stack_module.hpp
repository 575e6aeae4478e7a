// The Python face of stack.hpp.
#pragma once

#include <nanobind/nanobind.h>

namespace throughtime {

void bind_stacks(nanobind::module_ &m);

}  // namespace throughtime
