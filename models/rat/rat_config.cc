#include "models/rat/rat_config.h"

#include <algorithm>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "graph/base/findings.h"

namespace millrace::rat {
namespace {

class Parser {
 public:
  Parser(const Attrs& args, const std::vector<ModelArg>& defaults)
      : args_(args), defaults_(defaults) {}

  absl::StatusOr<RatConfig> Parse() {
    c_.task =
        Choice("task", {"segmentation", "detection"}) == 0 ? Task::kSegmentation : Task::kDetection;
    c_.channels = Positive("channels");
    c_.width = Positive("dims");
    c_.heads = Positive("heads");
    blocks_ = Positive("blocks");
    c_.projection_kernel = Positive("proj_kernel");
    c_.dropout = Number("dropout");
    if (!(c_.dropout >= 0 && c_.dropout < 1)) Wrong("dropout", "expected 0 <= dropout < 1");
    const double ratio = Number("mlp_ratio");
    if (!(ratio > 0)) Wrong("mlp_ratio", "expected more than 0");
    if (!findings_.ok()) return findings_.ToStatus();
    mlp_ = std::max<int64_t>(1, static_cast<int64_t>(static_cast<double>(c_.width) * ratio));
    if (c_.width % c_.heads != 0 || c_.width / c_.heads % 2 != 0) {
      Wrong("dims", absl::StrCat("expected a multiple of 2 x heads = ", 2 * c_.heads,
                                 ": a head turns in pairs of channels"));
    }
    if (c_.width % 4 != 0) Wrong("dims", "expected a multiple of 4");
    ParseImages();
    ParsePositions();
    if (!findings_.ok()) return findings_.ToStatus();
    ParseBlocks();
    ParseTask();
    if (!findings_.ok()) return findings_.ToStatus();
    return std::move(c_);
  }

 private:
  template <typename T>
  const T& Get(const char* name) const {
    return std::get<T>(args_.at(name));
  }
  std::string Text(const char* name) const {
    return std::visit([](const auto& v) { return absl::StrCat(v); }, args_.at(name));
  }
  double Number(const char* name) const { return Get<double>(name); }

  void Wrong(const char* name, std::string expected, std::string suggestion = "") {
    findings_.Add({.check = "model_arg",
                   .message = absl::StrCat(name, " is ", Text(name), ", ", expected),
                   .suggestion = std::move(suggestion)});
  }
  // An argument without effect must have been left alone.
  void Unused(const char* name, const std::string& why) {
    for (const ModelArg& d : defaults_) {
      if (d.name == name && d.default_value != args_.at(name)) {
        Wrong(name, absl::StrCat("which has no effect ", why), "leave it out");
      }
    }
  }
  int64_t Positive(const char* name) {
    if (Get<int64_t>(name) < 1) Wrong(name, "expected at least 1");
    return std::max<int64_t>(1, Get<int64_t>(name));
  }
  int Choice(const char* name, const std::vector<std::string>& known) {
    const std::string& value = Get<std::string>(name);
    const auto it = std::find(known.begin(), known.end(), value);
    if (it != known.end()) return static_cast<int>(it - known.begin());
    Wrong(name, absl::StrCat("expected one of ", absl::StrJoin(known, ", ")),
          absl::StrCat("did you mean '", Nearest(value, known), "'?"));
    return 0;
  }
  std::vector<std::string> List(const char* name) {
    return absl::StrSplit(Get<std::string>(name), ',');
  }
  // "2,2,2,1": one entry a block; the last holds for all blocks that follow.
  template <typename F>
  void PerBlock(const char* name, F&& each) {
    const std::vector<std::string> entries = List(name);
    if (static_cast<int64_t>(entries.size()) > blocks_) {
      Wrong(name, absl::StrCat("expected at most one entry for each of ", blocks_, " blocks"));
      return;
    }
    for (size_t i = 0; i < static_cast<size_t>(blocks_); ++i) {
      each(c_.grouping[i], entries[std::min(i, entries.size() - 1)]);
    }
  }
  // "3" or, per axis, "3x2".
  bool ParseGrid(const std::string& text, int64_t least, Grid* grid) {
    std::vector<std::string> parts = absl::StrSplit(text, 'x');
    if (parts.size() == 1) parts.push_back(parts[0]);
    if (parts.size() != 2) return false;
    grid->clear();
    for (const std::string& p : parts) {
      int64_t n = 0;
      if (!absl::SimpleAtoi(p, &n) || n < least) return false;
      grid->push_back(n);
    }
    return true;
  }

  void ParseImages() {
    for (const std::string& entry : List("image_size")) {
      Grid grid;
      if (!ParseGrid(entry, 1, &grid)) {
        Wrong("image_size", "expected sizes in pixels, one a scale: 256,128 or 512x640");
        return;
      }
      c_.images.push_back(std::move(grid));
    }
  }

  void ParsePositions() {
    rose_.heads = c_.heads;
    rose_.head_width = c_.width / c_.heads;
    rose_.ratio = Number("rotary_ratio");
    if (!(rose_.ratio > 0 && rose_.ratio <= 1)) {
      Wrong("rotary_ratio", "expected 0 < rotary_ratio <= 1", "positional none turns nothing");
    }
    const int start = Choice("initial_scaling", {"none", "log", "rope"});
    rose_.start = static_cast<SpacingStart>(start);
    rose_.learnable = Get<bool>("learnable_rose");
    rose_.learnable_spacing = Get<bool>("learnable_scale");
    const int positional = Choice("positional", {"rose", "rope", "absolute", "none"});
    if (positional == 0) {
      if (rose_.rotated_heads() == 0) {
        Wrong("rotary_ratio", absl::StrCat("which turns none of ", c_.heads, " heads"),
              "positional none");
      }
      return;
    }
    const std::string why =
        absl::StrCat("with positional ", Get<std::string>("positional"), ", only with rose");
    for (const char* name : {"learnable_rose", "learnable_scale", "initial_scaling"}) {
      Unused(name, why);
    }
    rose_.learnable = rose_.learnable_spacing = false;
    rose_.start = SpacingStart::kIdentity;
    c_.spacing = c_.absolute = positional == 2;
    if (positional > 1) {
      Unused("rotary_ratio", why);
      rose_.ratio = 0;
    }
  }

  void ParseBlocks() {
    GroupingConfig block;
    block.width = c_.width;
    block.heads = c_.heads;
    block.mlp = mlp_;
    block.iterations = Positive("iterations");
    block.layout = Choice("head_layout", {"correct", "reference"}) == 0 ? HeadLayout::kCorrect
                                                                        : HeadLayout::kReference;
    block.rose = rose_;
    c_.grouping.assign(static_cast<size_t>(blocks_), block);
    c_.mixing.width = c_.width;
    c_.mixing.mlp = mlp_;
    c_.mixing.rose = rose_;
    const auto grids = [&](const char* name, int64_t least, Grid GroupingConfig::*member) {
      PerBlock(name, [&](GroupingConfig& g, const std::string& entry) {
        if (ParseGrid(entry, least, &(g.*member))) return;
        Wrong(name, absl::StrCat("expected numbers from ", least, " on, as in 2,2,1 or 3x2"));
        g.*member = {1, 1};
      });
    };
    grids("kernel", 1, &GroupingConfig::kernel);
    grids("stride", 1, &GroupingConfig::stride);
    grids("window", 0, &GroupingConfig::window);
    PerBlock("attention", [&](GroupingConfig& g, const std::string& entry) {
      if (entry != "dense" && entry != "sparse") {
        Wrong("attention", "expected dense or sparse for each block");
      }
      g.sparse = entry == "sparse";
    });
    if (std::none_of(c_.grouping.begin(), c_.grouping.end(),
                     [](const GroupingConfig& g) { return g.sparse; })) {
      Unused("window", "where all attention is dense");
    }
    if (findings_.ok()) ComputeGrids();
  }

  void ComputeGrids() {
    c_.grids.push_back(c_.images);
    c_.factor.push_back({1, 1});
    for (int64_t i = 0; i < blocks_; ++i) {
      GroupingConfig& g = c_.grouping[static_cast<size_t>(i)];
      Grid automatic;
      for (size_t a = 0; a < 2; ++a) automatic.push_back(2 * g.stride[a] + 1);
      for (size_t a = 0; a < 2 && g.sparse; ++a) {
        if (g.window[a] == 0) g.window[a] = automatic[a];
      }
      std::vector<Grid> next;
      for (const Grid& grid : c_.grids.back()) {
        const ConvGeometry geometry = g.geometry();
        for (size_t a = 0; a < 2; ++a) {
          if (grid[a] + geometry.pad_low[a] + geometry.pad_high[a] < g.kernel[a]) {
            Wrong("kernel",
                  absl::StrCat("which leaves nothing of the grid ", absl::StrJoin(grid, "x"),
                               " before block ", i),
                  "use an odd kernel, stride 1 from there on, or larger images");
            return;
          }
        }
        next.push_back(OutputGrid(grid, geometry));
        for (size_t a = 0; a < 2 && g.sparse; ++a) {
          const int64_t least = SmallestCoveringWindow(grid[a], next.back()[a], g.stride[a]);
          if (g.window[a] < least) {
            Wrong(
                "window",
                absl::StrCat("of which block ", i, " has ", g.window[a], " at stride ", g.stride[a],
                             ": some tokens would be in no window, expected ", least, " or more"),
                absl::StrCat("0 stands for 2 x stride + 1 = ", automatic[a]));
            return;
          }
        }
      }
      c_.grids.push_back(std::move(next));
      c_.factor.push_back({c_.factor.back()[0] * static_cast<double>(g.stride[0]),
                           c_.factor.back()[1] * static_cast<double>(g.stride[1])});
    }
  }

  void ParseTask() {
    c_.classes = Positive("num_classes");
    if (c_.task == Task::kSegmentation) {
      for (const char* name : {"queries", "max_objects", "class_loss", "decoder_layers",
                               "query_source", "class_weight", "l1_weight", "giou_weight"}) {
        Unused(name, "with task segmentation");
      }
      return;
    }
    DetectionConfig& d = c_.detection;
    d.width = c_.width;
    d.mlp = mlp_;
    d.queries = Positive("queries");
    c_.max_objects = Positive("max_objects");
    d.decoder_layers = Get<int64_t>("decoder_layers");
    if (d.decoder_layers < 0) Wrong("decoder_layers", "expected 0 or more");
    d.token_queries = Choice("query_source", {"learned", "tokens"}) == 1;
    c_.loss.match.focal = Choice("class_loss", {"softmax", "focal"}) == 1;
    d.logits = c_.classes + (c_.loss.match.focal ? 0 : 1);
    if (c_.loss.match.focal) d.class_bias = -4.59511985013459;  // sigmoid: one in a hundred
    c_.loss.weights = {Number("class_weight"), Number("l1_weight"), Number("giou_weight")};
    for (const char* name : {"class_weight", "l1_weight", "giou_weight"}) {
      if (!(Number(name) >= 0)) Wrong(name, "expected 0 or more");
    }
    c_.loss.match.weights = c_.loss.weights;
    if (c_.width % d.heads != 0) {
      Wrong("dims", "expected a multiple of 8, the heads of the detection head");
    }
    if (d.token_queries && findings_.ok()) {
      Unused("queries", "where every token is a query");
      const Grid& last = c_.grids.back()[0];
      d.queries = last[0] * last[1];
    }
  }

  const Attrs& args_;
  const std::vector<ModelArg>& defaults_;
  Findings findings_;
  RatConfig c_;
  RoseConfig rose_;
  int64_t blocks_ = 1, mlp_ = 1;
};

}  // namespace

std::vector<ModelArg> RatArguments() {
  return {
      {"task", std::string("segmentation"), "segmentation or detection"},
      {"image_size", std::string("256"),
       "pixels of each scale's image, the first scale first: 256,128 or 512x640 (height x width)"},
      {"channels", int64_t{3}, "colour channels of an image"},
      {"dims", int64_t{256}, "width of a token"},
      {"blocks", int64_t{4}, "pairs of grouping attention and multi-resolution attention"},
      {"heads", int64_t{16}, "attention heads; divides dims into even parts"},
      {"mlp_ratio", 4.0, "inner width of MLPs / dims"},
      {"proj_kernel", int64_t{7}, "kernel of the convolution that makes tokens of pixels"},
      {"kernel", std::string("7"),
       "kernel of each block's strided convolution; one entry a block, the last holds for the "
       "rest; "
       "5x3 is height x width"},
      {"stride", std::string("3"), "stride of each block's convolution, as kernel"},
      {"attention", std::string("dense"), "dense or sparse grouping attention, as kernel"},
      {"window", std::string("0"),
       "sparse: tokens per axis that a group sees, as kernel; 0 means 2 x stride + 1, with which "
       "every token is seen"},
      {"iterations", int64_t{3}, "rounds of grouping attention with the same weights"},
      {"head_layout", std::string("correct"),
       "correct, or reference: values mixed over heads and tokens as the published weights have "
       "it"},
      {"positional", std::string("rose"),
       "rose: rotary, by physical position; rope: rotary with fixed frequencies, by index on the "
       "grid; absolute: sines of the physical position added to the first tokens (the published "
       "option of that name adds nothing); none"},
      {"learnable_rose", true, "rose: frequencies are learnt"},
      {"learnable_scale", false, "rose: the spacing is transformed by learnt parameters"},
      {"initial_scaling", std::string("none"),
       "rose: start of that transform: none (the spacing itself), log (nothing turns at spacing "
       "1), "
       "rope (nothing turns at first)"},
      {"rotary_ratio", 0.5, "share of the heads that turn"},
      {"dropout", 0.0, "in MLPs, after the activation and at the end"},
      {"num_classes", int64_t{1}, "classes beside the background"},
      {"queries", int64_t{100}, "detection: predictions per image"},
      {"max_objects", int64_t{100}, "detection: objects per image that the data may have"},
      {"class_loss", std::string("softmax"),
       "detection: softmax with one more class for no object, or focal"},
      {"decoder_layers", int64_t{0},
       "detection: layers of a DETR decoder; 0: the published head, one cross attention"},
      {"query_source", std::string("learned"),
       "detection: learned queries, or tokens: every token of the first scale is a query"},
      {"class_weight", 1.0, "detection: weight of the class loss, also in matching"},
      {"l1_weight", 5.0, "detection: weight of the boxes' distance, also in matching"},
      {"giou_weight", 2.0, "detection: weight of 1 - GIoU, also in matching"},
  };
}

absl::StatusOr<RatConfig> ParseRat(const Attrs& args, const std::vector<ModelArg>& defaults) {
  return Parser(args, defaults).Parse();
}

}  // namespace millrace::rat
