// Prints what `targetcli ... help create` shows, for the scripts that compare it with the man
// pages.
#include <cstdio>

#include "clonedev/options.h"

int main() { return std::fputs(clonedev::config_help(), stdout) < 0 ? 1 : 0; }
