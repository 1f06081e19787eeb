// What containers do: a seccomp filter that denies io_uring.
#pragma once

#include <functional>

namespace clonedev {

// Runs `work`, and every thread it starts, where io_uring_setup fails with `code`.
void run_without_io_uring(int code, const std::function<void()>& work);

}  // namespace clonedev
