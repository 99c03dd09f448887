#pragma once

#include <string>
#include <string_view>

#include "formats/format.h"
#include "json/text.h"

namespace llm_proxy {

// Seals in a field that is not their maker's: a marker, the item's id, the token.
// "r1:rs_1:gAAA…"

// `redacted`: of an Anthropic redacted_thinking block.
std::string carried_seal(const Seal& seal, bool redacted);
struct OpenedSeal {
  Seal seal;
  bool redacted = false;
  bool carried = false;  // it bore our marker
};
// What `token`, found in a field of `field_format`, is. Views into `token`.
OpenedSeal opened_seal(Text token, WireFormat field_format);

// Whether a body of `format` may hold seals that only passed through its client (opened_seal() says
// `carried`): they must not reach an upstream as they stand. Looks at the fields that can, and
// nowhere else.
bool carries_seals(WireFormat format, std::string_view body);

// Whether it holds thinking that another provider than that of `own` has sealed.
bool is_foreign(const Message& message, WireFormat own);
// Whether any of its messages does.
bool holds_foreign(const Request& request, WireFormat own);

}  // namespace llm_proxy
