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

// What a client's address is called that no proxy tells so that it could be believed. It is in no
// network, so no rule lets it in.
inline constexpr std::string_view kUnknownAddress = "unknown";

// Returns the address of the client behind reverse proxies, without a port: the right-most address
// of X-Forwarded-For, Forwarded's for= (RFC 7239) or X-Real-IP that does not belong to `proxies`.
// Entries further left were written by the client itself and prove nothing.
//
// kUnknownAddress where an entry that counts is no address, where the three fields name different
// clients (a proxy writes one of them and passes the others on as the client sent them), or where
// the request was passed on and no field says for whom. `peer` where nothing was passed on.
//
// Call it only if `peer` itself belongs to `proxies`.
std::string client_address(const Fields& fields, std::string_view peer,
                           const TrustedAddresses& proxies);

}  // namespace llm_proxy
