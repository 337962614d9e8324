//! Data from a folder, whatever is in it.

use crate::options::Options;
use langevin::data::{Fit, ImageFolder, ImageSet, Split, idx};
use std::error::Error;
use std::path::Path;

/// IDX files with the parts they were published in, or images of which a tenth is held out.
pub fn load(folder: &Path, options: &Options) -> Result<Split<ImageSet>, Box<dyn Error + Send + Sync>> {
    let data = if idx::is_in(folder) {
        let Split { train, test } = idx::open(folder)?;
        Split { train: if options.flip { train.mirrored() } else { train }, test }
    } else {
        let mut images = ImageFolder::open(folder)?;
        println!("{} images in {} classes", images.len(), images.classes().len().max(1));
        images = images.fit(options.size.map_or(Fit::Keep, |size| Fit::Resize([size, size])));
        images = if options.gray { images.gray() } else { images };
        images = if options.skip_unreadable { images.skip_unreadable() } else { images };
        let loaded = images.load()?;
        for skipped in &loaded.skipped {
            eprintln!("passed over: {skipped}");
        }
        let Split { train, test } = loaded.images.split(0.9, 7)?;
        Split { train: if options.flip { train.mirrored() } else { train }, test }
    };
    let [channels, height, width] = data.train.image_shape();
    let (train, test) = (data.train.len(), data.test.len());
    println!("{train} images to train on, {test} held out: {channels} channels, {height} by {width}");
    Ok(data)
}
