#include "json/graft.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <utility>
#include <vector>

#include "json/reader.h"
#include "json/writer.h"

namespace llm_proxy {
namespace {

struct Member;

// A value with its spelling. Below kDepth, objects and arrays are leaves: compared by their
// spelling.
struct Node {
  JsonKind kind = JsonKind::none;
  JsonSlice raw;
  std::string text;  // of a string
  std::vector<Member> members;
  std::vector<Node> items;
  bool leaf = true;

  const Node* find(std::string_view key) const;
};

struct Member {
  std::string name;
  Node value;
};

const Node* Node::find(std::string_view key) const {
  for (const Member& member : members) {
    if (member.name == key) return &member.value;
  }
  return nullptr;
}

constexpr int kDepth = 24;
constexpr std::size_t kSteps = 500'000;  // comparisons of values
constexpr std::size_t kTable = 250'000;  // of a difference between two arrays

void read(JsonReader& json, Node& out, int depth) {
  out.kind = json.kind();
  const std::size_t start = json.position();
  out.leaf = depth >= kDepth || (out.kind != JsonKind::object && out.kind != JsonKind::array);
  if (out.leaf) {
    Text text;
    if (out.kind == JsonKind::string && json.string(text)) {
      out.text = text.decode();
    } else {
      json.skip();
    }
  } else if (out.kind == JsonKind::object) {
    std::string_view key;
    for (json.begin_object(); json.next_key(key);) {
      out.members.push_back({std::string(key), {}});
      read(json, out.members.back().value, depth + 1);
    }
  } else {
    for (json.begin_array(); json.next_item();) read(json, out.items.emplace_back(), depth + 1);
  }
  out.raw = json.since(start);
}

std::optional<Node> tree(std::string_view source) {
  JsonReader json(source);
  Node node;
  read(json, node, 0);
  if (!json.finish()) return std::nullopt;
  return node;
}

// The texts of a value, in their order: itself, or those of its parts.
void collect(const Node& node, std::vector<const Node*>& out) {
  if (node.kind == JsonKind::string) out.push_back(&node);
  for (const Node& item : node.items) collect(item, out);
  for (const char* key : {"text", "content"}) {
    if (const Node* found = node.find(key)) return collect(*found, out);
  }
}

std::string said(const Node& node) {
  std::vector<const Node*> texts;
  collect(node, texts);
  std::string out;
  for (const Node* text : texts) out += text->text;
  return out;
}

enum class Step : std::uint8_t { keep, change, remove, insert };

struct Edit {
  Step step;
  std::size_t before = 0;
  std::size_t after = 0;
};

class Grafter {
 public:
  bool run(const Node& source, const Node& before, const Node& after) {
    return merge(source, before, after) && steps_ < kSteps;
  }
  std::string& out() { return out_; }

 private:
  bool same(const Node& a, const Node& b) {
    if (++steps_ > kSteps || a.kind != b.kind || a.leaf != b.leaf) return false;
    if (a.raw == b.raw) return true;
    if (a.kind == JsonKind::string) return a.text == b.text;
    if (a.leaf) return false;
    if (a.members.size() != b.members.size() || a.items.size() != b.items.size()) return false;
    for (const auto& [key, value] : a.members) {
      const Node* other = b.find(key);
      if (other == nullptr || !same(value, *other)) return false;
    }
    for (std::size_t i = 0; i < a.items.size(); ++i) {
      if (!same(a.items[i], b.items[i])) return false;
    }
    return true;
  }

  // Does `before` say what `source` says, as far as it says anything?
  bool tells(const Node& before, const Node& source) {
    if (++steps_ > kSteps) return false;
    if (source.kind != before.kind) return !before.raw.empty() && said(source) == said(before);
    if (source.leaf || before.leaf) return same(source, before);
    if (source.kind == JsonKind::array) {
      const auto places = align(before.items, source.items);
      return std::count(places.begin(), places.end(), kNowhere) == 0;
    }
    bool anything = before.members.empty();
    for (const auto& [key, value] : before.members) {
      const Node* own = source.find(key);
      if (own == nullptr || key == "id") continue;  // a paraphrase may make up ids
      if (!tells(value, *own)) return false;
      anything = true;
    }
    return anything;
  }

  // Where in `source` each item of `before` stands.
  static constexpr auto kNowhere = static_cast<std::size_t>(-1);
  std::vector<std::size_t> align(const std::vector<Node>& before, const std::vector<Node>& source) {
    std::vector<std::size_t> places;
    std::size_t from = 0;
    for (const Node& item : before) {
      std::size_t at = from;
      while (at < source.size() && !tells(item, source[at])) ++at;
      if (at < source.size()) from = at + 1;
      places.push_back(at < source.size() ? at : kNowhere);
    }
    return places;
  }

  // As many items without a place as nobody stands for between the same neighbours: those alike
  // belong together.
  static void pair_gaps(const std::vector<Node>& before, const std::vector<Node>& source,
                        std::vector<std::size_t>& places) {
    std::size_t from = 0;  // of source
    for (std::size_t i = 0; i < places.size();) {
      if (places[i] != kNowhere) {
        from = places[i++] + 1;
        continue;
      }
      std::size_t end = i;
      while (end < places.size() && places[end] == kNowhere) ++end;
      const std::size_t until = end < places.size() ? places[end] : source.size();
      if (end - i == until - from) {
        for (std::size_t k = i; k < end; ++k) {
          if (alike(before[k], source[from + k - i])) places[k] = from + k - i;
        }
      }
      i = end;
      from = until;
    }
  }

  // Two items that one edit may have made of each other.
  static bool alike(const Node& a, const Node& b) {
    if (a.kind != b.kind) return false;
    for (const char* key : {"type", "role", "name", "id", "call_id", "tool_use_id"}) {
      const Node* one = a.find(key);
      const Node* other = b.find(key);
      if (one != nullptr && other != nullptr && one->raw != other->raw) return false;
    }
    return true;
  }

  // What made `b` of `a`: equal items stay, of the others those alike were changed.
  std::optional<std::vector<Edit>> difference(const std::vector<Node>& a,
                                              const std::vector<Node>& b) {
    std::size_t head = 0, tail = 0;
    const std::size_t shorter = std::min(a.size(), b.size());
    while (head < shorter && same(a[head], b[head])) ++head;
    while (tail < shorter - head && same(a[a.size() - 1 - tail], b[b.size() - 1 - tail])) ++tail;
    std::vector<Edit> edits;
    for (std::size_t i = 0; i < head; ++i) edits.push_back({Step::keep, i, i});
    if (!middle(a, b, head, tail, edits)) return std::nullopt;
    for (std::size_t i = tail; i > 0; --i) {
      edits.push_back({Step::keep, a.size() - i, b.size() - i});
    }
    return edits;
  }

  // The same between equal ends, by the longest common subsequence.
  bool middle(const std::vector<Node>& a, const std::vector<Node>& b, std::size_t head,
              std::size_t tail, std::vector<Edit>& edits) {
    const std::size_t rows = a.size() - head - tail, columns = b.size() - head - tail;
    if (rows * columns > kTable) return false;
    std::vector<std::vector<std::uint32_t>> length(rows + 1,
                                                   std::vector<std::uint32_t>(columns + 1, 0));
    std::vector<std::vector<bool>> equal(rows, std::vector<bool>(columns, false));
    for (std::size_t i = rows; i-- > 0;) {
      for (std::size_t j = columns; j-- > 0;) {
        equal[i][j] = same(a[head + i], b[head + j]);
        length[i][j] =
            equal[i][j] ? length[i + 1][j + 1] + 1 : std::max(length[i + 1][j], length[i][j + 1]);
      }
    }
    std::size_t i = 0, j = 0;
    while (i < rows || j < columns) {
      if (i < rows && j < columns && equal[i][j]) {
        edits.push_back({Step::keep, head + i++, head + j++});
      } else if (i < rows && j < columns && length[i + 1][j + 1] == length[i][j] &&
                 alike(a[head + i], b[head + j])) {
        edits.push_back({Step::change, head + i++, head + j++});
      } else if (j == columns || (i < rows && length[i + 1][j] >= length[i][j + 1])) {
        edits.push_back({Step::remove, head + i++, 0});
      } else {
        edits.push_back({Step::insert, 0, head + j++});
      }
    }
    return true;
  }

  bool merge(const Node& source, const Node& before, const Node& after) {
    if (same(before, after)) {
      out_ += source.raw;
      return true;
    }
    const bool inner = !source.leaf && !before.leaf && !after.leaf;
    if (inner && source.kind == before.kind && before.kind == after.kind) {
      return source.kind == JsonKind::object ? merge_objects(source, before, after)
                                             : merge_arrays(source, before, after);
    }
    if ((!source.leaf || source.kind == JsonKind::string) && put_text(source, before, after)) {
      return true;
    }
    out_ += after.raw;
    return true;
  }

  void key(std::string_view name, bool& first) {
    out_ += first ? "\"" : ",\"";
    first = false;
    Text::plain(name).escape_to(out_);
    out_ += "\":";
  }

  bool merge_objects(const Node& source, const Node& before, const Node& after) {
    bool first = true;
    out_ += '{';
    for (const auto& [name, value] : source.members) {
      const Node* old = before.find(name);
      const Node* now = after.find(name);
      if (old != nullptr && now == nullptr) continue;
      key(name, first);
      if (old != nullptr) {
        if (!merge(value, *old, *now)) return false;
      } else {
        out_ += now != nullptr ? now->raw : value.raw;
      }
    }
    for (const auto& [name, value] : after.members) {
      if (source.find(name) != nullptr) continue;
      const Node* old = before.find(name);
      if (old != nullptr && same(*old, value)) continue;  // only its way to say what source says
      if (old != nullptr && !old->leaf) return false;     // said elsewhere in source
      key(name, first);
      out_ += value.raw;
    }
    out_ += '}';
    return true;
  }

  // By items; where these have no counterpart, by what they say together.
  bool merge_arrays(const Node& source, const Node& before, const Node& after) {
    const std::size_t start = out_.size();
    if (merge_items(source, before, after)) return true;
    out_.resize(start);
    return put_text(source, before, after);
  }

  bool merge_items(const Node& source, const Node& before, const Node& after) {
    const auto edits = difference(before.items, after.items);
    if (!edits) return false;
    auto places = align(before.items, source.items);
    pair_gaps(before.items, source.items, places);
    bool first = true;
    std::size_t next = 0;  // of source
    const auto item = [&](std::string_view raw) {
      if (!first) out_ += ',';
      first = false;
      out_ += raw;
    };
    const auto up_to = [&](std::size_t place) {
      for (; next < place; ++next) item(source.items[next].raw);
    };
    out_ += '[';
    for (const Edit& edit : *edits) {
      if (edit.step == Step::insert) {
        item(after.items[edit.after].raw);
        continue;
      }
      const std::size_t place = places[edit.before];
      if (place == kNowhere) {
        if (edit.step != Step::keep) return false;
        continue;
      }
      up_to(place);
      if (edit.step == Step::keep) {
        item(source.items[place].raw);
      } else if (edit.step == Step::change) {
        item({});
        if (!merge(source.items[place], before.items[edit.before], after.items[edit.after])) {
          return false;
        }
      }
      next = place + 1;
    }
    up_to(source.items.size());
    out_ += ']';
    return true;
  }

  // Do the two differ in what they say alone?
  bool only_texts_differ(const Node& a, const Node& b) {
    if (same(a, b)) return true;
    if (a.kind != b.kind) return false;
    if (a.kind == JsonKind::string) return true;
    if (a.leaf || a.items.size() != b.items.size() || a.members.size() != b.members.size()) {
      return false;
    }
    for (std::size_t i = 0; i < a.items.size(); ++i) {
      if (!only_texts_differ(a.items[i], b.items[i])) return false;
    }
    for (const auto& [name, value] : a.members) {
      const Node* other = b.find(name);
      const bool text = name == "text" || name == "content";
      if (other == nullptr || !(text ? only_texts_differ(value, *other) : same(value, *other))) {
        return false;
      }
    }
    return true;
  }

  // Writes `source` with its texts, which say together what `before` says, saying what `after`
  // says. False, nothing written: they do not, or more than texts was edited.
  bool put_text(const Node& source, const Node& before, const Node& after) {
    if (!only_texts_differ(before, after)) return false;
    const std::string old = said(before), now = said(after);
    std::vector<const Node*> texts, own;
    collect(source, texts);
    std::size_t at = 0;
    for (const Node* text : texts) {
      if (!text->text.empty() && old.compare(at, text->text.size(), text->text) == 0) {
        at += text->text.size();
        own.push_back(text);
      }
    }
    if (own.empty() || at != old.size()) return false;
    // The edited stretch lies in one of them.
    const std::size_t shorter = std::min(old.size(), now.size());
    std::size_t head = 0, tail = 0;
    while (head < shorter && old[head] == now[head]) ++head;
    while (tail < shorter - head && old[old.size() - 1 - tail] == now[now.size() - 1 - tail]) {
      ++tail;
    }
    at = 0;
    for (const Node* text : own) {
      const std::size_t end = at + text->text.size();
      if (head <= end && old.size() - tail <= end && head >= at) {
        const std::size_t behind = end - (old.size() - tail);
        std::string said_now = text->text.substr(0, head - at);
        said_now += now.substr(head, now.size() - tail - head);
        said_now += text->text.substr(text->text.size() - behind);
        std::string raw;
        JsonWriter(raw).string(Text::plain(said_now));
        // The node is a view into the document: so is its place.
        out_ +=
            source.raw.substr(0, static_cast<std::size_t>(text->raw.data() - source.raw.data()));
        out_ += raw;
        out_ += source.raw.substr(static_cast<std::size_t>(text->raw.data() - source.raw.data()) +
                                  text->raw.size());
        return true;
      }
      at = end;
    }
    return false;
  }

  std::string out_;
  std::size_t steps_ = 0;
};

}  // namespace

std::optional<std::string> graft(std::string_view source, std::string_view before,
                                 std::string_view after) {
  const auto own = tree(source), old = tree(before), now = tree(after);
  if (!own || !old || !now) return std::nullopt;
  Grafter grafter;
  if (!grafter.run(*own, *old, *now)) return std::nullopt;
  return std::move(grafter.out());
}

}  // namespace llm_proxy
