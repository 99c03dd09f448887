#pragma once

#include <string_view>

#include "formats/format.h"
#include "json/writer.h"

namespace llm_proxy {

// A request that goes to an upstream of the format it came in: its members are written as they
// stood, so that fields nobody here knows arrive.
inline bool keeps_format(const Request& request, WireFormat own) {
  return request.format == own && !request.members.empty();
}

// What the model is called at the upstream: as the route says, else as the client does.
inline Text upstream_model(const Request& request, const Translation& translation) {
  return translation.upstream_model.empty() ? request.model
                                            : Text::plain(translation.upstream_model);
}

// Writes a request that keeps its format. `write_model(json)` writes the member "model", or nothing
// where the path names the model. `history` is the member that holds the messages; `write_history(
// value)` writes that member's value when `foreign`: when thinking in it bears the seal of another
// provider, which an upstream of this format would refuse.
template <class WriteModel, class WriteHistory>
void write_same_format(const Request& request, std::string_view history, bool foreign,
                       JsonWriter& json, WriteModel write_model, WriteHistory write_history) {
  json.begin_object();
  bool has_model = false;
  for (const auto& [key, value] : request.members) {
    if (key == "model") {
      has_model = true;
      write_model(json);
    } else if (foreign && key == history) {
      json.key(Text::plain(key));
      write_history(value);
    } else {
      json.key(Text::plain(key)).raw(value);
    }
  }
  if (!has_model) write_model(json);
  json.end_object();
}

}  // namespace llm_proxy
