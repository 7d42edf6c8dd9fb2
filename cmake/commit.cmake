# The commit that the sources are of, for simplicial_attn.version().
#
# Included: openfoldpp_commit(VARIABLE) and openfoldpp_add_commit_header(TARGET).
# As a script (cmake -D SOURCE_DIR=... -D OPENFOLDPP_COMMIT=... -D HEADER=... -P commit.cmake): writes the header
# anew where the hash has changed. It runs at every build, so a new commit never keeps the old hash.

set(OPENFOLDPP_COMMIT_SCRIPT ${CMAKE_CURRENT_LIST_FILE})

# The hash of HEAD from the files of a checkout, for a machine without git; empty where they do not tell it.
function(openfoldpp_read_head variable)
  set(commit "")
  if(EXISTS ${SOURCE_DIR}/.git/HEAD)
    file(STRINGS ${SOURCE_DIR}/.git/HEAD commit LIMIT_COUNT 1)
    if(commit MATCHES "^ref: (.+)$")
      set(ref ${CMAKE_MATCH_1})
      set(commit "")
      if(EXISTS ${SOURCE_DIR}/.git/${ref})
        file(STRINGS ${SOURCE_DIR}/.git/${ref} commit LIMIT_COUNT 1)
      elseif(EXISTS ${SOURCE_DIR}/.git/packed-refs)
        file(STRINGS ${SOURCE_DIR}/.git/packed-refs commit REGEX " ${ref}$" LIMIT_COUNT 1)
        string(REGEX REPLACE " .*" "" commit "${commit}")
      endif()
    endif()
  endif()
  set(${variable} "${commit}" PARENT_SCOPE)
endfunction()

function(openfoldpp_commit variable)
  if(NOT SOURCE_DIR)
    set(SOURCE_DIR ${CMAKE_CURRENT_SOURCE_DIR})
  endif()
  set(commit "${OPENFOLDPP_COMMIT}")
  if(NOT commit AND EXISTS ${SOURCE_DIR}/.git)
    # Only where the sources are a checkout themselves, and not unpacked inside another one.
    # safe.directory: a build as another user than the checkout's owner only reads the hash.
    execute_process(COMMAND git -c safe.directory=* rev-parse --verify --quiet HEAD WORKING_DIRECTORY ${SOURCE_DIR}
      OUTPUT_VARIABLE commit OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_VARIABLE git_error RESULT_VARIABLE git_result)
    if(NOT git_result EQUAL 0)
      openfoldpp_read_head(commit)
    endif()
  endif()
  if(NOT commit AND EXISTS ${SOURCE_DIR}/COMMIT)
    file(READ ${SOURCE_DIR}/COMMIT commit)
    string(STRIP "${commit}" commit)
  endif()
  string(LENGTH "${commit}" length)
  if(NOT (length EQUAL 40 OR length EQUAL 64) OR NOT commit MATCHES "^[0-9a-f]+$")
    message(FATAL_ERROR
      "The commit hash of these sources is not known: got '${commit}', expected 40 or 64 hexadecimal digits.\n"
      "  git said: ${git_result} ${git_error}\n"
      "Build from a git checkout with a commit, or from the sdist, or name the hash: "
      "pip install . -C cmake.define.OPENFOLDPP_COMMIT=HASH (with CMake alone: -D OPENFOLDPP_COMMIT=HASH).")
  endif()
  set(${variable} ${commit} PARENT_SCOPE)
endfunction()

function(openfoldpp_add_commit_header target)
  openfoldpp_commit(commit)  # fail at configuration, not in the middle of a build
  message(STATUS "openfoldpp commit: ${commit}")
  set(folder ${CMAKE_CURRENT_BINARY_DIR}/${target})
  add_custom_target(${target}_write BYPRODUCTS ${folder}/commit.h COMMENT "commit hash"
    COMMAND ${CMAKE_COMMAND} -D SOURCE_DIR=${CMAKE_CURRENT_SOURCE_DIR} -D OPENFOLDPP_COMMIT=${OPENFOLDPP_COMMIT}
            -D HEADER=${folder}/commit.h -P ${OPENFOLDPP_COMMIT_SCRIPT} VERBATIM)
  add_library(${target} INTERFACE)
  target_include_directories(${target} INTERFACE ${folder})
  add_dependencies(${target} ${target}_write)
endfunction()

if(CMAKE_SCRIPT_MODE_FILE)
  openfoldpp_commit(commit)
  file(CONFIGURE OUTPUT ${HEADER} CONTENT "#define OPENFOLDPP_COMMIT \"${commit}\"\n")
endif()
