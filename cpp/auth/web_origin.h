#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "http/head.h"

namespace llm_proxy {

// What a browser's page may do here (Fetch standard, "CORS protocol"): nothing, unless its origin
// is this machine's or the configuration lists it ("https://app.example", or "*" for every page).

// A page that is neither of this machine nor listed.
bool from_foreign_page(const RequestHead& head, const std::vector<std::string>& allowed);

// Nobody but whoever sits at this machine, who needs no key; not a page whose name was made to
// point here.
bool from_this_machine(const RequestHead& head, std::string_view peer);

// A browser asking, before it sends what a listed page wants sent.
bool is_preflight(const RequestHead& head, const std::vector<std::string>& allowed);

// The header lines of the answer to it.
std::string preflight_fields(const RequestHead& head);

// The header lines that let a listed page read a reply; nothing for anybody else.
void append_origin_fields(const RequestHead& head, const std::vector<std::string>& allowed,
                          std::string& out);

}  // namespace llm_proxy
