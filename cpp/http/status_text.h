#pragma once

#include <string_view>

namespace llm_proxy {

// The standard's reason phrase; "Unknown" for a status it does not name.
std::string_view status_text(int status);

}  // namespace llm_proxy
