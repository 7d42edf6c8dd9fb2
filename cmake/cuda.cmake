# The CUDA kernels; included only with -D OPENFOLDPP_CUDA=ON.
if(NOT CMAKE_CUDA_ARCHITECTURES)
  set(CMAKE_CUDA_ARCHITECTURES 80 90a)  # A100; H100 with its own instructions
endif()
enable_language(CUDA)
set(CMAKE_CUDA_STANDARD 17)
set(CMAKE_CUDA_STANDARD_REQUIRED ON)

file(GLOB cuda_sources CONFIGURE_DEPENDS csrc/cuda/*.cu)
add_library(openfoldpp_cuda STATIC ${cuda_sources})
# csrc/cuda for <instructions.h>, which the tests on the CPU replace.
target_include_directories(openfoldpp_cuda PUBLIC csrc/include PRIVATE csrc/cuda)
target_compile_definitions(openfoldpp_cuda PUBLIC OPENFOLDPP_CUDA=1)
# ptxas prints each kernel's registers and spills into the build log.
target_compile_options(openfoldpp_cuda PRIVATE $<$<COMPILE_LANGUAGE:CUDA>:-Xptxas=-v>)
