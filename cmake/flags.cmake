# Joined files compile several times faster. Separate ones show that each has the includes it needs.
set(CLONE_JOIN "" CACHE STRING "Sources that are compiled joined, a target at a time: none, tests or all")
set_property(CACHE CLONE_JOIN PROPERTY STRINGS "" tests all)
set(CMAKE_UNITY_BUILD_BATCH_SIZE 100)
if(CLONE_JOIN STREQUAL all)
  set(CMAKE_UNITY_BUILD ON)
endif()

# What every target of the project compiles with. Attached to targets, never global.
add_library(clonedev_flags INTERFACE)
target_compile_features(clonedev_flags INTERFACE cxx_std_20)
target_include_directories(clonedev_flags INTERFACE ${PROJECT_SOURCE_DIR}/include ${PROJECT_SOURCE_DIR}/lib)
target_compile_definitions(clonedev_flags INTERFACE _FILE_OFFSET_BITS=64
  CLONEDEV_VERSION="${PROJECT_VERSION}")
target_compile_options(clonedev_flags INTERFACE -Wall -Wextra -Wpedantic -Wconversion
  -fvisibility=hidden -fvisibility-inlines-hidden -fPIC)
# Of two files that are joined one may shadow the other, and GCC takes what is local to one of them for a
# header's.
set(joined $<BOOL:$<TARGET_PROPERTY:UNITY_BUILD>>)
target_compile_options(clonedev_flags INTERFACE $<$<NOT:${joined}>:-Wshadow>
  $<$<AND:${joined},$<CXX_COMPILER_ID:GNU>>:-Wno-subobject-linkage>)
if(CLONE_WERROR)
  target_compile_options(clonedev_flags INTERFACE -Werror)
endif()
if(CLONE_SANITIZE)
  target_compile_options(clonedev_flags INTERFACE -fsanitize=${CLONE_SANITIZE} -fno-omit-frame-pointer)
  target_link_options(clonedev_flags INTERFACE -fsanitize=${CLONE_SANITIZE})
  if(CLONE_SANITIZE MATCHES undefined)  # Else UBSan only prints.
    target_compile_options(clonedev_flags INTERFACE -fno-sanitize-recover=undefined)
  endif()
  if(CLONE_SANITIZE MATCHES fuzzer)  # clang 14 cannot assemble coroutines with `function`.
    target_compile_options(clonedev_flags INTERFACE -fno-sanitize=function)
  endif()
else()
  target_compile_options(clonedev_flags INTERFACE -fstack-protector-strong)
  target_link_options(clonedev_flags INTERFACE -Wl,-z,relro,-z,now,-z,noexecstack)
endif()

# What the shipped targets have besides (docs/security.md); tests do without.
add_library(clonedev_hardening INTERFACE)
if(NOT CLONE_SANITIZE)
  include(CheckCXXCompilerFlag)
  foreach(flag stack-clash-protection cf-protection)
    check_cxx_compiler_flag(-f${flag} CLONE_HAS_${flag})
    if(CLONE_HAS_${flag})
      target_compile_options(clonedev_hardening INTERFACE -f${flag})
    endif()
  endforeach()
  # A distribution's own build type ("None") brings the distribution's own level.
  target_compile_options(clonedev_hardening INTERFACE
    "$<$<CONFIG:Release,RelWithDebInfo,MinSizeRel>:-U_FORTIFY_SOURCE;-D_FORTIFY_SOURCE=2>")
  target_compile_definitions(clonedev_hardening INTERFACE _GLIBCXX_ASSERTIONS)
endif()
