#pragma once

#include <string>
#include <string_view>

#include "auth/trusted_addresses.h"
#include "http/head.h"

namespace llm_proxy {

// True if a header field says that another program passed this request on: X-Forwarded-*,
// Forwarded (RFC 7239), Via (RFC 9110 7.6.3), X-Real-IP and the like. The address of the
// connection is then not the client's.
bool is_forwarded(const Fields& fields);

// Returns the address of the client behind reverse proxies, without a port: the right-most address
// of X-Forwarded-For, else of Forwarded's for=, that does not belong to `proxies`; else X-Real-IP.
// Entries further left were written by the client itself and prove nothing. Where the fields hold
// no readable address, or all of them are proxies', returns the last one read, or `peer`.
//
// Call it only if `peer` itself belongs to `proxies`.
std::string client_address(const Fields& fields, std::string_view peer,
                           const TrustedAddresses& proxies);

}  // namespace llm_proxy
