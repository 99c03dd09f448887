#pragma once

#include <string_view>

#include "config/snapshot.h"
#include "http/head.h"

namespace llm_proxy {

// Whether a field of a client's head is no business of an upstream's: it belongs to the connection
// or the browser, is a credential or holds the client's own once more, gives the request another
// method or path, or is what a backend of the configuration carries its own key in. "_" counts as
// "-": many servers take the two for one. `key` is the credential that the client came with.
bool is_withheld(const Field& field, std::string_view key, const Snapshot& snapshot);

// Whether a field says on whose account a provider works. It belongs to a client's own login;
// beside a key of ours it would spend that for somebody else.
bool names_an_account(const Field& field);

// Whether a field is said to plugins of this proxy and to no upstream.
bool is_for_plugins(const Field& field);

}  // namespace llm_proxy
