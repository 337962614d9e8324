//! Folders made for the test, good and bad.

use super::*;
use image::{GrayImage, ImageBuffer, Luma, Rgba, RgbaImage};

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }
    fn path(&self) -> &Path {
        self.0.path()
    }
    fn at(&self, name: &str) -> PathBuf {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    }
    fn color(&self, name: &str, [width, height]: [u32; 2], color: [u8; 3]) -> PathBuf {
        let path = self.at(name);
        RgbImage::from_pixel(width, height, Rgb(color)).save(&path).unwrap();
        path
    }
    fn open(&self) -> ImageFolder {
        ImageFolder::open(self.path()).unwrap()
    }
}

fn problem<T: std::fmt::Debug>(result: Result<T, DataError>) -> (PathBuf, Problem) {
    match result.unwrap_err() {
        DataError::File(FileError { path, problem }) => (path, problem),
        other => panic!("{other}"),
    }
}

#[test]
fn folders_are_classes_in_the_order_of_their_names() {
    let folder = Folder::new();
    folder.color("b/2.png", [2, 1], [255, 0, 0]);
    folder.color("b/10.PNG", [2, 1], [0, 255, 0]);
    folder.color("a/x.webp", [2, 1], [0, 0, 255]);
    folder.color("B/x.png", [2, 1], [51, 102, 153]);
    folder.color("b/.hidden.png", [9, 9], [0; 3]);
    fs::write(folder.at("b/notes.txt"), "no image").unwrap();
    fs::create_dir(folder.path().join("empty")).unwrap();
    let opened = folder.open();
    assert_eq!((opened.len(), opened.classes()), (4, &["B", "a", "b"].map(str::to_owned)[..]));
    let LoadedImages { images, classes, skipped } = opened.load().unwrap();
    assert_eq!((images.labels(), classes.len(), skipped.len()), (&[0, 1, 2, 2][..], 3, 0));
    assert_eq!(images.image_shape(), [3, 1, 2]);
    let of = |byte: u8| f32::from(byte) / 127.5 - 1.0;
    assert_eq!(images.image(0).unwrap(), [51, 51, 102, 102, 153, 153].map(of));
    // "10.PNG" comes before "2.png".
    assert_eq!(images.image(2).unwrap(), [0, 0, 255, 255, 0, 0].map(of));
    assert_eq!(images.image(3).unwrap(), [255, 255, 0, 0, 0, 0].map(of));
}

#[test]
fn every_format_is_read_without_classes() {
    let folder = Folder::new();
    for name in ["a.png", "b.jpg", "c.jpeg", "d.webp"] {
        folder.color(name, [8, 8], [200, 100, 50]);
    }
    let loaded = folder.open().load().unwrap();
    assert_eq!((loaded.images.len(), loaded.images.classes(), loaded.classes.len()), (4, None, 0));
    for image in 0..4 {
        for (channel, color) in [200.0, 100.0, 50.0f32].iter().enumerate() {
            let value = (loaded.images.image(image).unwrap()[64 * channel] + 1.0) * 127.5;
            assert!((value - color).abs() < 3.0, "{image} {channel}: {value}"); // JPEG rounds
        }
    }
}

#[test]
fn many_images_keep_their_order() {
    let folder = Folder::new();
    for i in 0..100u8 {
        folder.color(&format!("{i:03}.png"), [3, 3], [2 * i; 3]);
    }
    let first = folder.open().gray().load().unwrap().images;
    for i in 0..100 {
        assert_eq!(first.image(i).unwrap()[0], (2 * i) as f32 / 127.5 - 1.0);
    }
    assert_eq!(first, folder.open().gray().load().unwrap().images);
}

#[test]
fn fits() {
    let folder = Folder::new();
    // Left third red, middle green, right blue: 12 wide, 4 high.
    let stripes = RgbImage::from_fn(12, 4, |x, _| Rgb([[255, 0, 0], [0, 255, 0], [0, 0, 255]][x as usize / 4]));
    stripes.save(folder.at("stripes.png")).unwrap();
    let load = |fit| folder.open().fit(fit).load().unwrap().images;
    let green = [[-1.0; 4], [1.0; 4], [-1.0; 4]].concat();
    assert_eq!(load(Fit::Crop([2, 2])).image(0).unwrap(), green);
    assert_eq!(load(Fit::Keep).image_shape(), [3, 4, 12]);
    assert_eq!(load(Fit::Stretch([4, 3])).image_shape(), [3, 4, 3]);
    let resized = folder.open().resize(2).load().unwrap().images;
    assert_eq!(resized.image_shape(), [3, 2, 2]);
    let pixels = resized.image(0).unwrap();
    assert!(pixels[4..8].iter().all(|green| *green > 0.8), "the middle is green: {pixels:?}");
    // Enlarging works too, and proportions that do not divide.
    folder.color("more.png", [5, 7], [9; 3]);
    assert_eq!(folder.open().fit(Fit::Resize([16, 11])).load().unwrap().images.image_shape(), [3, 16, 11]);
    let zero = folder.open().resize(0).load().unwrap_err();
    assert!(matches!(zero, DataError::ZeroExtent { .. }), "{zero}");
}

#[test]
fn transparency_gray_and_depth() {
    let folder = Folder::new();
    RgbaImage::from_fn(3, 1, |x, _| Rgba([100, 0, 0, [0, 128, 255][x as usize]])).save(folder.at("a.png")).unwrap();
    let red = |images: &ImageSet| {
        images.image(0).unwrap()[..3].iter().map(|v| ((v + 1.0) * 127.5).round() as u8).collect::<Vec<_>>()
    };
    assert_eq!(red(&folder.open().load().unwrap().images), [255, 177, 100]);
    assert_eq!(red(&folder.open().background([0; 3]).load().unwrap().images), [0, 50, 100]);
    let deep = Folder::new();
    ImageBuffer::<Luma<u16>, _>::from_pixel(1, 1, Luma([0x8000u16])).save(deep.at("deep.png")).unwrap();
    GrayImage::from_pixel(1, 1, Luma([128])).save(deep.at("plain.png")).unwrap();
    let images = deep.open().gray().load().unwrap().images;
    assert_eq!(images.image(0).unwrap(), images.image(1).unwrap());
    assert_eq!(images.image_shape(), [1, 1, 1]);
}

#[test]
fn mirror_images_are_added_to_what_is_trained_on() {
    let folder = Folder::new();
    for i in 0..10u8 {
        RgbImage::from_fn(2, 1, |x, _| Rgb([i * 20 + x as u8; 3])).save(folder.at(&format!("{i}.png"))).unwrap();
    }
    let whole = folder.open().gray().flip().load().unwrap().images;
    assert_eq!(whole.len(), 20);
    let (image, mirror) = (whole.image(3).unwrap(), whole.image(13).unwrap());
    assert_eq!([image[0], image[1]], [mirror[1], mirror[0]]);
    let split = folder.open().gray().flip().split(0.8, 1).unwrap();
    assert_eq!((split.train.len(), split.test.len()), (16, 2));
}

#[test]
fn an_empty_folder() {
    let folder = Folder::new();
    assert!(matches!(problem(ImageFolder::open(folder.path())).1, Problem::EmptyFolder { .. }));
    fs::write(folder.at("a/notes.txt"), "x").unwrap();
    assert!(matches!(problem(ImageFolder::open(folder.path())).1, Problem::EmptyFolder { .. }));
    let missing = problem(ImageFolder::open(folder.path().join("none")));
    assert!(matches!(missing.1, Problem::Io { action: "list", .. }));
}

#[test]
fn images_beside_folders() {
    let folder = Folder::new();
    folder.color("a.png", [1, 1], [0; 3]);
    folder.color("class/b.png", [1, 1], [0; 3]);
    assert!(matches!(problem(ImageFolder::open(folder.path())).1, Problem::MixedFolder));
}

#[test]
fn two_sizes_without_a_rule() {
    let folder = Folder::new();
    folder.color("a.png", [4, 3], [0; 3]);
    let other = folder.color("b.png", [5, 3], [0; 3]);
    let (path, problem) = problem(folder.open().load());
    assert_eq!(path, other);
    assert!(matches!(problem, Problem::Size { given: [5, 3], expected: [4, 3] }), "{problem}");
    assert!(problem.to_string().contains("resize"), "{problem}");
    assert_eq!(folder.open().resize(3).load().unwrap().images.len(), 2);
    let crop = folder.open().fit(Fit::Crop([3, 5])).load();
    assert!(matches!(self::problem(crop).1, Problem::Crop { given: [4, 3], crop: [5, 3] }));
}

/// A PNG whose header says what it likes, with a right checksum.
fn lying_png(width: u32, height: u32, data: &[u8]) -> Vec<u8> {
    let chunk = |kind: &[u8], data: &[u8]| {
        let body = [kind, data].concat();
        let mut crc = flate2::Crc::new();
        crc.update(&body);
        [&(data.len() as u32).to_be_bytes()[..], &body, &crc.sum().to_be_bytes()].concat()
    };
    let header = [&width.to_be_bytes()[..], &height.to_be_bytes(), &[8, 2, 0, 0, 0]].concat();
    let mut packed = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    std::io::Write::write_all(&mut packed, data).unwrap();
    let packed = packed.finish().unwrap();
    [b"\x89PNG\r\n\x1a\n".to_vec(), chunk(b"IHDR", &header), chunk(b"IDAT", &packed), chunk(b"IEND", &[])].concat()
}

#[test]
fn broken_truncated_and_lying_images() {
    let good = Folder::new();
    let noise = RgbImage::from_fn(64, 64, |x, y| Rgb([(x * y) as u8, (x * 7 + y * 13) as u8, (x ^ y) as u8]));
    for ending in ["png", "jpg", "webp"] {
        let path = good.at(&format!("good.{ending}"));
        noise.save(&path).unwrap();
        let bytes = fs::read(&path).unwrap();
        for (name, bytes) in [("empty", vec![]), ("garbage", vec![7; 500]), ("header", bytes[..20].to_vec())] {
            let folder = Folder::new();
            let path = folder.at(&format!("{name}.{ending}"));
            fs::write(&path, bytes).unwrap();
            let (at, problem) = problem(folder.open().load());
            assert_eq!(at, path);
            assert!(matches!(problem, Problem::Image { .. }), "{name}.{ending}: {problem}");
        }
        if ending != "jpg" {
            // JPEG decoders show what is there of a file that was cut short.
            let folder = Folder::new();
            fs::write(folder.at(&format!("half.{ending}")), &bytes[..bytes.len() / 2]).unwrap();
            let problem = problem(folder.open().load()).1;
            assert!(matches!(problem, Problem::Image { .. }), "half.{ending}: {problem}");
        }
    }
    // A header that promises more rows than the data have.
    let folder = Folder::new();
    fs::write(folder.at("lie.png"), lying_png(2, 1000, &[0; 7 * 3])).unwrap();
    assert!(matches!(problem(folder.open().load()).1, Problem::Image { .. }));
    // The name says PNG, the content JPEG: the content counts.
    let folder = Folder::new();
    fs::copy(good.path().join("good.jpg"), folder.at("named.png")).unwrap();
    assert_eq!(folder.open().load().unwrap().images.len(), 1);
}

#[test]
fn a_decompression_bomb() {
    // A few kilobytes that would be 30,000 by 30,000 pixels: 2.7 GB.
    let folder = Folder::new();
    fs::write(folder.at("bomb.png"), lying_png(30_000, 30_000, &[0; 90_001])).unwrap();
    let problem = problem(folder.open().resize(32).load()).1;
    assert!(matches!(problem, Problem::Pixels { width: 30_000, height: 30_000, .. }), "{problem}");
    // The limit is the user's.
    let folder = Folder::new();
    folder.color("large.png", [40, 30], [0; 3]);
    assert!(matches!(self::problem(folder.open().max_pixels(1199).load()).1, Problem::Pixels { limit: 1199, .. }));
    assert_eq!(folder.open().max_pixels(1200).load().unwrap().images.len(), 1);
}

#[test]
fn unreadable_files_are_passed_over_only_when_asked() {
    let folder = Folder::new();
    folder.color("a.png", [2, 2], [10; 3]);
    fs::write(folder.at("b.png"), b"broken").unwrap();
    folder.color("c.png", [2, 2], [30; 3]);
    fs::write(folder.at("d.jpg"), b"").unwrap();
    assert!(matches!(problem(folder.open().load()).1, Problem::Image { .. }));
    let loaded = folder.open().skip_unreadable().load().unwrap();
    assert_eq!(loaded.images.len(), 2);
    let names: Vec<_> = loaded.skipped.iter().map(|error| error.path.file_name().unwrap().to_owned()).collect();
    assert_eq!(names, ["b.png", "d.jpg"]);
    let broken = Folder::new();
    fs::write(broken.at("b.png"), b"broken").unwrap();
    assert!(matches!(broken.open().skip_unreadable().load(), Err(DataError::Empty { .. })));
}

#[cfg(unix)]
#[test]
fn links_to_nowhere_are_unreadable() {
    let folder = Folder::new();
    folder.color("a.png", [2, 2], [10; 3]);
    std::os::unix::fs::symlink("/nowhere/at/all.png", folder.at("b.png")).unwrap();
    assert!(matches!(problem(folder.open().load()).1, Problem::Io { .. }));
    assert_eq!(folder.open().skip_unreadable().load().unwrap().skipped.len(), 1);
}

#[cfg(target_os = "linux")]
#[test]
fn names_that_are_not_utf8() {
    use std::os::unix::ffi::OsStrExt;
    let name = std::ffi::OsStr::from_bytes(b"caf\xe9");
    let folder = Folder::new();
    folder.color("a/x.png", [1, 1], [0; 3]);
    fs::create_dir(folder.path().join(name)).unwrap();
    let (path, problem) = problem(ImageFolder::open(folder.path()));
    assert!(matches!(problem, Problem::Name), "{problem}");
    assert_eq!(path.file_name().unwrap(), name);
    let folder = Folder::new();
    folder.color("x.png", [1, 1], [0; 3]);
    fs::write(folder.path().join(name), "x").unwrap();
    assert!(matches!(self::problem(ImageFolder::open(folder.path())).1, Problem::Name));
}

#[test]
fn a_split_that_leaves_a_part_empty() {
    let folder = Folder::new();
    for i in 0..3 {
        folder.color(&format!("{i}.png"), [1, 1], [0; 3]);
    }
    for (fraction, part) in [(0.9, "test"), (0.1, "train")] {
        let error = folder.open().split(fraction, 0).unwrap_err();
        assert!(matches!(error, DataError::EmptyPart { part: found, .. } if found == part), "{error}");
    }
    assert!(matches!(folder.open().split(1.0, 0), Err(DataError::SplitFraction { .. })));
}
