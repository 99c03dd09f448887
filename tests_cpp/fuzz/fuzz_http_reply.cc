// A reply as a connection reads it: however the bytes are cut, the head, the body, where it ends
// and whether the connection may carry another are the same.
#include <cstdlib>
#include <string>
#include <string_view>

#include "http/http_reply.h"

namespace {

using llm_proxy::HttpReply;

struct Outcome {
  std::string head, body;
  bool done = false, reusable = false, failed = false, cut = false;
  bool operator==(const Outcome&) const = default;
};

void check(bool holds) {
  if (!holds) std::abort();
}

std::string text_of(const llm_proxy::ReplyHead& head) {
  std::string text = std::to_string(head.status) + std::to_string(head.version_minor);
  text += head.reason;
  for (const llm_proxy::Field& field : head.fields) {
    text += '\n';
    text += field.name;
    text += ':';
    text += field.value;
  }
  return text;
}

// A copy of each piece, which is gone when the next comes: what the reader kept, it kept itself.
Outcome read(std::string_view bytes, std::size_t step, bool to_head_request) {
  HttpReply reply(to_head_request);
  Outcome out;
  for (std::size_t at = 0; at < bytes.size(); at += step) {
    const std::string piece(bytes.substr(at, step));
    const bool was_done = reply.done();
    const auto body = reply.feed(piece);
    if (!body) {
      out.failed = true;
      break;
    }
    check(!was_done || (reply.done() && body->empty()));
    check(body->empty() || reply.head() != nullptr);
    out.body += *body;
  }
  if (reply.head() != nullptr) out.head = text_of(*reply.head());
  out.done = reply.done();
  out.reusable = reply.reusable();
  if (!out.failed) {
    out.cut = !reply.on_end();
    check(out.cut != reply.done());
  }
  return out;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  const bool to_head_request = data[0] >= 128;
  Outcome whole = read(bytes, bytes.size() + 1, to_head_request);
  Outcome cut = read(bytes, 1 + data[0] % 32, to_head_request);
  check(whole.failed == cut.failed);
  if (whole.failed) return 0;  // after how much of the body depends on the cuts
  check(whole == cut);
  check(!to_head_request || whole.body.empty());
  return 0;
}
