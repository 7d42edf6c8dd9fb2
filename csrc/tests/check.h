// A test is TEST(name) { CHECK(condition); }. main.cpp runs them all.
#pragma once

#include <cstdio>
#include <vector>

namespace check {

struct Test {
    const char* name;
    void (*run)();
};

inline std::vector<Test>& tests() {
    static std::vector<Test> all;
    return all;
}

inline int& failures() {
    static int count = 0;
    return count;
}

struct Register {
    Register(const char* name, void (*run)()) { tests().push_back({name, run}); }
};

}  // namespace check

#define TEST(name)                                          \
    static void test_##name();                              \
    static const check::Register register_##name(#name, test_##name); \
    static void test_##name()

#define CHECK(condition)                                                                  \
    do {                                                                                  \
        if (!(condition)) {                                                               \
            std::printf("%s:%d: not true: %s\n", __FILE__, __LINE__, #condition);         \
            ++check::failures();                                                          \
        }                                                                                 \
    } while (false)

// The expression throws std::invalid_argument, and its message holds `part`.
#define CHECK_INVALID(expression, part)                                                   \
    do {                                                                                  \
        bool thrown = false;                                                              \
        try {                                                                             \
            expression;                                                                   \
        } catch (const std::invalid_argument& error) {                                    \
            thrown = std::string(error.what()).find(part) != std::string::npos;           \
        }                                                                                 \
        CHECK(thrown && #expression);                                                     \
    } while (false)
