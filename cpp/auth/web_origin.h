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

// True if the request comes from a program on this machine: a loopback peer, not passed on by
// another program, under a loopback name, and not from a foreign page.
bool from_this_machine(const RequestHead& head, std::string_view peer);

// True if the request names this proxy by something that no stranger's domain can point here: a
// literal address, a loopback name, a name of one label such as this machine's or a container's
// (public domains have two and more), a container runtime's name for its host, or one of `names`
// ("*": any name). A page that made its own name resolve to this address (DNS rebinding) sends that
// name, in the Host field or as the authority of an absolute target. A request without Host
// (HTTP/1.0) comes from no browser.
bool is_known_host(const RequestHead& head, const std::vector<std::string>& names);

// A browser asking, before it sends what a listed page wants sent.
bool is_preflight(const RequestHead& head, const std::vector<std::string>& allowed);

// The header lines of the answer to it.
std::string preflight_fields(const RequestHead& head);

// The header lines that let a listed page read a reply; nothing for anybody else.
void append_origin_fields(const RequestHead& head, const std::vector<std::string>& allowed,
                          std::string& out);

}  // namespace llm_proxy
