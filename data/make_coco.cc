#include "data/make_coco.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "data/file.h"
#include "data/image/codec.h"
#include "data/image/texture.h"
#include "graph/base/findings.h"
#include "graph/base/random.h"
#include "graph/base/status.h"
#include "nlohmann/json.hpp"

namespace millrace {
namespace {

using Json = nlohmann::ordered_json;
constexpr double kPi = 3.14159265358979323846;
constexpr int kClasses = 10;
const char* const kNames[kClasses] = {"circle", "square",  "triangle", "star",      "hexagon",
                                      "cross",  "ellipse", "arrow",    "half_disc", "diamond"};

using Polygon = std::vector<double>;

class Draws {
 public:
  explicit Draws(const CounterRng& rng) : rng_(rng) {}
  double operator()(double low, double high) { return low + (high - low) * rng_.Uniform(next_++); }

 private:
  const CounterRng rng_;
  uint64_t next_ = 0;
};

// Corners on an arc of radii that alternate between 1 and `inner`.
Polygon Corners(int count, double inner, double stretch, double from, double to) {
  Polygon p;
  for (int i = 0; i < count; ++i) {
    const double angle = from + (to - from) * i / count;
    const double r = i % 2 == 0 ? 1 : inner;
    p.push_back(r * std::cos(angle));
    p.push_back(stretch * r * std::sin(angle));
  }
  return p;
}

// The class's outline within the unit circle.
Polygon Outline(int category) {
  switch (category) {
    case 1:
      return Corners(28, 1, 1, 0, 2 * kPi);
    case 2:
      return {-0.75, -0.75, 0.75, -0.75, 0.75, 0.75, -0.75, 0.75};
    case 3:
      return {0, -1, 0.87, 0.6, -0.87, 0.6};
    case 4:
      return Corners(10, 0.42, 1, -kPi / 2, 1.5 * kPi);
    case 5:
      return Corners(6, 1, 1, 0, 2 * kPi);
    case 6:
      return {-0.3, -0.9, 0.3,  -0.9, 0.3,  -0.3, 0.9,  -0.3, 0.9,  0.3,  0.3,  0.3,
              0.3,  0.9,  -0.3, 0.9,  -0.3, 0.3,  -0.9, 0.3,  -0.9, -0.3, -0.3, -0.3};
    case 7:
      return Corners(28, 1, 0.5, 0, 2 * kPi);
    case 8:
      return {0.95, 0, 0.2, -0.7, 0.2, -0.28, -0.9, -0.28, -0.9, 0.28, 0.2, 0.28, 0.2, 0.7};
    case 9: {
      Polygon p = Corners(16, 1, 1, kPi, 2 * kPi);
      p.push_back(1), p.push_back(0);
      for (size_t i = 1; i < p.size(); i += 2) p[i] += 0.4;
      return p;
    }
    default:
      return {0, -1, 0.55, 0, 0, 1, -0.55, 0};
  }
}

Polygon Placed(Polygon p, double x, double y, double radius, double angle) {
  const double c = std::cos(angle) * radius, s = std::sin(angle) * radius;
  for (size_t i = 0; i < p.size(); i += 2) {
    const double u = p[i], v = p[i + 1];
    p[i] = x + c * u - s * v;
    p[i + 1] = y + s * u + c * v;
  }
  return p;
}

// Sutherland and Hodgman's clipping, one side of the picture after the other; to hundredths, as
// COCO's files have them.
Polygon Clipped(Polygon p, double width, double height) {
  for (int side = 0; side < 4; ++side) {
    const int axis = side % 2;
    const double limit = side < 2 ? 0 : (axis == 0 ? width : height);
    const double sign = side < 2 ? 1 : -1;
    Polygon out;
    for (size_t i = 0; i < p.size(); i += 2) {
      const size_t j = (i + 2) % p.size();
      const double a = sign * (p[i + axis] - limit), b = sign * (p[j + axis] - limit);
      if (a >= 0) out.insert(out.end(), {p[i], p[i + 1]});
      if ((a >= 0) != (b >= 0)) {
        const double t = a / (a - b);
        out.push_back(p[i] + t * (p[j] - p[i]));
        out.push_back(p[i + 1] + t * (p[j + 1] - p[i + 1]));
      }
    }
    p = std::move(out);
  }
  for (double& v : p) v = std::round(v * 100) / 100;
  return p;
}

PixelBox BoxOf(const Polygon& p) {
  double low[2] = {p[0], p[1]}, high[2] = {p[0], p[1]};
  for (size_t i = 0; i < p.size(); ++i) {
    low[i % 2] = std::min(low[i % 2], p[i]);
    high[i % 2] = std::max(high[i % 2], p[i]);
  }
  const auto hundredths = [](double v) { return std::round(v * 100) / 100; };
  return {low[0], low[1], hundredths(high[0] - low[0]), hundredths(high[1] - low[1])};
}

double Overlap(const PixelBox& a, const PixelBox& b) {  // share of the smaller one
  const double w = std::min(a.x + a.width, b.x + b.width) - std::max(a.x, b.x);
  const double h = std::min(a.y + a.height, b.y + b.height) - std::max(a.y, b.y);
  if (w <= 0 || h <= 0) return 0;
  return w * h / std::min(a.width * a.height, b.width * b.height);
}

// Hues of the classes are a tenth of a turn apart.
void HueOf(int category, Draws& draw, double out[3]) {
  const double hue = (category + draw(-0.25, 0.25)) / kClasses, light = draw(-0.1, 0.1);
  for (int c = 0; c < 3; ++c) out[c] = 0.5 + light + 0.42 * std::cos(2 * kPi * (hue - c / 3.0));
}

void Paint(const Polygon& p, const double colour[3], const Texture& texture,
           const CounterRng& noise, ByteImage* image) {
  for (const PixelRun& run : RunsOf(p, image->height, image->width)) {
    for (int x = run.first; x < run.last; ++x) {
      float n[3];
      PixelNoise(noise, static_cast<uint64_t>(run.y) * image->width + x, n);
      double value[3];
      const double shade = 0.85 + 0.3 * texture.at(run.y, x);
      for (int c = 0; c < 3; ++c) value[c] = colour[c] * shade + 0.015 * n[c];
      StoreColour(value, image->at(run.y, x));
    }
  }
}

Json AnnotationOf(const SceneObject& object, int64_t id, int64_t image_id) {
  Json segmentation;
  if (object.polygon.empty()) {
    segmentation["size"] = {object.crowd.height, object.crowd.width};
    // COCO's own files list the runs; tools that rewrite them use the compressed form.
    if (id % 2 == 0) {
      segmentation["counts"] = object.crowd.counts;
    } else {
      segmentation["counts"] = RleToString(object.crowd);
    }
  } else {
    segmentation = Json::array({object.polygon});
  }
  return Json{{"segmentation", segmentation},
              {"area", object.area},
              {"iscrowd", object.polygon.empty() ? 1 : 0},
              {"image_id", image_id},
              {"bbox", {object.box.x, object.box.y, object.box.width, object.box.height}},
              {"category_id", object.category},
              {"id", id}};
}

absl::Status MakePart(const MakeCocoOptions& options, const std::string& part, int64_t count,
                      int64_t first_id) {
  const std::string folder = absl::StrCat(options.directory, "/", part, "2017");
  RETURN_IF_ERROR(MakeDirectories(folder));
  Json images = Json::array(), annotations = Json::array(), categories = Json::array();
  int64_t next = first_id * 100;
  for (int64_t i = 0; i < count; ++i) {
    const Scene scene = DrawScene(options, part, i);
    const int64_t id = first_id + i;
    const std::string name = absl::StrCat(absl::Dec(id, absl::kZeroPad12), ".jpg");
    ASSIGN_OR_RETURN(const std::vector<uint8_t> jpeg, EncodeJpeg(scene.image, 92));
    RETURN_IF_ERROR(WriteFile(absl::StrCat(folder, "/", name), jpeg));
    images.push_back(Json{{"license", 1},
                          {"file_name", name},
                          {"height", scene.image.height},
                          {"width", scene.image.width},
                          {"id", id}});
    for (const SceneObject& object : scene.objects) {
      annotations.push_back(AnnotationOf(object, next++, id));
    }
  }
  for (int c = 1; c <= options.classes; ++c) {
    categories.push_back(Json{{"supercategory", "shape"}, {"id", c}, {"name", kNames[c - 1]}});
  }
  const Json file{{"info", Json{{"description", "generated scenes of shapes"}, {"version", "1.0"}}},
                  {"licenses", Json::array({Json{{"id", 1}, {"name", "generated"}}})},
                  {"images", std::move(images)},
                  {"annotations", std::move(annotations)},
                  {"categories", std::move(categories)}};
  return WriteFileAtomically(
      absl::StrCat(options.directory, "/annotations/instances_", part, "2017.json"), file.dump());
}

}  // namespace

Scene DrawScene(const MakeCocoOptions& options, const std::string& part, int64_t index) {
  const uint64_t stream =
      HashCombine(HashString(absl::StrCat("make_coco.", part)), static_cast<uint64_t>(index));
  const auto generator = [&](uint64_t n) {
    return CounterRng(options.seed, HashCombine(stream, n));
  };
  Draws draw(generator(0));
  const int longer =
      static_cast<int>(draw(static_cast<double>(options.min_side), options.max_side + 0.999));
  const int shorter = std::max(8, static_cast<int>(longer * draw(0.6, 1.0)));
  const bool upright = draw(0, 1) < 0.35;
  const int height = upright ? longer : shorter, width = upright ? shorter : longer;

  Scene scene;
  scene.image = ByteImage(height, width, 3);
  double ground[3], other[3];
  const double grey = draw(0.25, 0.75);
  for (int c = 0; c < 3; ++c) {
    ground[c] = grey + draw(-0.06, 0.06);
    other[c] = ground[c] + draw(-0.15, 0.15);
  }
  const Texture texture(height, width, longer * draw(0.04, 0.2), generator(1));
  const CounterRng noise = generator(2);
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) {
      float n[3];
      PixelNoise(noise, static_cast<uint64_t>(y) * width + x, n);
      const double t = texture.at(y, x);
      double value[3];
      for (int c = 0; c < 3; ++c) value[c] = ground[c] + (other[c] - ground[c]) * t + 0.02 * n[c];
      StoreColour(value, scene.image.at(y, x));
    }
  }

  const auto category_of = [&] {
    return 1 + std::min(static_cast<int>(options.classes) - 1,
                        static_cast<int>(draw(0, static_cast<double>(options.classes))));
  };
  const double side = std::min(height, width);
  const bool empty = draw(0, 1) < 1.0 / 16;
  const bool crowded = !empty && draw(0, 1) < 0.1;
  if (crowded) {
    SceneObject crowd;
    crowd.category = category_of();
    const double centre_x = width * draw(0.25, 0.75), centre_y = height * draw(0.25, 0.75);
    const int members = static_cast<int>(draw(9, 16));
    std::vector<std::vector<double>> polygons;
    for (int i = 0; i < members; ++i) {
      const double x = centre_x + side * draw(-0.25, 0.25), y = centre_y + side * draw(-0.15, 0.15);
      const Polygon p =
          Clipped(Placed(Outline(crowd.category), x, y, side * draw(0.03, 0.06), draw(0, 2 * kPi)),
                  width, height);
      double colour[3];
      HueOf(crowd.category, draw, colour);
      if (p.size() < 6) continue;
      Paint(p, colour, texture, noise, &scene.image);
      polygons.push_back(p);
    }
    crowd.crowd = RleOf(FillPolygons(polygons, height, width), height, width);
    crowd.box = millrace::BoxOf(crowd.crowd);
    crowd.area = static_cast<double>(AreaOf(crowd.crowd));
    if (crowd.area > 0) scene.objects.push_back(std::move(crowd));
  }
  const int wanted =
      empty ? 0
            : 1 + std::min(static_cast<int>(options.max_objects) - 1,
                           static_cast<int>(draw(0, static_cast<double>(options.max_objects))));
  for (int i = 0; i < wanted; ++i) {
    SceneObject object;
    object.category = category_of();
    double colour[3];
    HueOf(object.category, draw, colour);
    for (int attempt = 0; attempt < 12; ++attempt) {
      const double radius = side * draw(0.09, 0.26);
      const Polygon p = Clipped(Placed(Outline(object.category), width * draw(0.08, 0.92),
                                       height * draw(0.08, 0.92), radius, draw(-0.4, 0.4)),
                                width, height);
      if (p.size() < 6) continue;
      const PixelBox box = BoxOf(p);
      bool clear = box.width * box.height > 1.2 * radius * radius;
      for (const SceneObject& o : scene.objects) clear &= Overlap(box, o.box) < 0.35;
      if (!clear) continue;
      object.polygon = p;
      object.box = box;
      for (const PixelRun& run : RunsOf(p, height, width)) object.area += run.last - run.first;
      Paint(p, colour, texture, noise, &scene.image);
      scene.objects.push_back(object);
      break;
    }
  }
  return scene;
}

absl::Status MakeCoco(const MakeCocoOptions& options) {
  Findings findings;
  const auto range = [&](absl::string_view name, int64_t value, int64_t least, int64_t most) {
    if (value >= least && value <= most) return;
    findings.Add({.check = "make_coco",
                  .message = absl::StrCat(name, " is ", value, ", expected ", least, "..", most)});
  };
  if (options.directory.empty()) {
    findings.Add({.check = "make_coco", .message = "no directory given, expected where to write"});
  }
  range("train_images", options.train_images, 1, 100000);
  range("val_images", options.val_images, 0, 100000);
  range("classes", options.classes, 1, kClasses);
  range("max_objects", options.max_objects, 1, 50);
  range("min_side", options.min_side, 32, 8192);
  range("max_side", options.max_side, options.min_side, 8192);
  RETURN_IF_ERROR(findings.ToStatus());

  const std::string notes = options.directory + "/annotations";
  RETURN_IF_ERROR(MakeDirectories(notes));
  for (const char* part : {"train", "val"}) {
    RETURN_IF_ERROR(RemoveFile(absl::StrCat(notes, "/instances_", part, "2017.json")));
  }
  RETURN_IF_ERROR(MakePart(options, "train", options.train_images, 1));
  return MakePart(options, "val", options.val_images, 500001);
}

}  // namespace millrace
