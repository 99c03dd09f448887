#include "formats/cumulative_text.h"

#include <string_view>

namespace llm_proxy {
namespace {

bool is_blank(std::string_view text) {
  return text.find_first_not_of(" \t\r\n") == text.npos;
}

}  // namespace

void CumulativeText::on_event(const Event& event) {
  if (const auto* start = std::get_if<PartStart>(&event)) kind_ = start->kind;
  const auto* delta = std::get_if<PartDelta>(&event);
  if (delta == nullptr || (kind_ != PartKind::text && kind_ != PartKind::thinking)) {
    return next_.on_event(event);
  }
  auto& said = said_[kind_ == PartKind::text ? 0 : 1];
  std::string room;
  const auto chunk = delta->text.decode_in(room);
  const auto rest = std::string(fresh(chunk, said));
  if (said.manner != Manner::pieces) said.last = chunk;
  if (rest.empty() || (kind_ == PartKind::thinking && !said.visible && is_blank(rest))) return;
  said.visible = said.visible || !is_blank(rest);
  next_.on_event(PartDelta{delta->index, Text::plain(rest)});
}

// What of a chunk has not been said before.
std::string_view CumulativeText::fresh(std::string_view chunk, Said& said) const {
  if (said.manner == Manner::pieces || said.last.empty()) return chunk;
  const bool again = chunk.starts_with(said.last);
  if (said.manner == Manner::unknown && !is_blank(said.last)) {
    const bool longer = again && chunk.size() > said.last.size();
    said.manner = longer ? Manner::cumulative : Manner::pieces;
    if (!longer) said.last.clear();
  }
  return again && said.manner == Manner::cumulative ? chunk.substr(said.last.size()) : chunk;
}

}  // namespace llm_proxy
